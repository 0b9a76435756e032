// A load on etcd by its own client, as one process: closed loop or at a rate, on a few connections.
//
// The last line that it prints is a JSON object of the fields of bench.runs.results.Load.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/grpclog"
)

// callersEach is how many callers share a connection.
const callersEach = 64

// shape is what the command line asks for.
type shape struct {
	target     string
	workload   string
	callers    int
	valueBytes int
	keys       int
	rate       float64
	seconds    float64
	warmUp     float64
}

func parse() shape {
	var s shape
	flag.StringVar(&s.target, "target", "", "endpoints by commas, the leader's first")
	flag.StringVar(&s.workload, "workload", "write", "one of "+strings.Join(names(), ", "))
	flag.IntVar(&s.callers, "callers", 1, "calls under way at once")
	flag.IntVar(&s.valueBytes, "value-bytes", 128, "size of the values")
	flag.IntVar(&s.keys, "keys", 1000, "number of keys")
	flag.Float64Var(&s.rate, "rate", 0, "calls a second, begun whether earlier ones are answered or not")
	flag.Float64Var(&s.seconds, "seconds", 4, "time of the measurement")
	flag.Float64Var(&s.warmUp, "warm-up", 1, "time before it")
	flag.Parse()
	return s
}

func run(ctx context.Context, s shape) (load, error) {
	if !slices.Contains(names(), s.workload) {
		return load{}, fmt.Errorf("no workload %q: one of %s", s.workload, strings.Join(names(), ", "))
	}
	if s.target == "" || s.callers < 1 || s.keys < 1 || s.valueBytes < 1 || s.seconds <= 0 {
		return load{}, fmt.Errorf("-target is needed, and -callers, -keys, -value-bytes and -seconds above 0")
	}
	clients := []*clientv3.Client{}
	for range (s.callers + callersEach - 1) / callersEach {
		client, err := connect(s)
		if err != nil {
			return load{}, err
		}
		defer client.Close()
		clients = append(clients, client)
	}
	preparing, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := prepare(preparing, clients[0], s); err != nil {
		return load{}, fmt.Errorf("what the load needs cannot be written: %w", err)
	}
	if make, found := special[s.workload]; found {
		bounded, cancel := context.WithTimeout(ctx, time.Duration((s.warmUp+s.seconds+120)*float64(time.Second)))
		defer cancel()
		return make(bounded, clients[0], s)
	}
	calls := []call{}
	for caller := range s.callers {
		one, err := workloads[s.workload](ctx, clients[caller%len(clients)], s, caller)
		if err != nil {
			return load{}, fmt.Errorf("caller %d cannot begin: %w", caller, err)
		}
		calls = append(calls, one)
	}
	return warmUpAndMeasure(ctx, calls, s)
}

func warmUpAndMeasure(ctx context.Context, calls []call, s shape) (load, error) {
	if s.warmUp > 0 {
		if _, err := measure(ctx, calls, s.rate, s.warmUp); err != nil {
			return load{}, err
		}
	}
	begun()
	return measure(ctx, calls, s.rate, s.seconds)
}

// begun says that the measurement begins: what the servers spend counts from here on.
func begun() {
	fmt.Println("measuring")
}

// connect makes a connection to the first endpoint: the leader, where the client in Python connects too.
func connect(s shape) (*clientv3.Client, error) {
	return connectTo(s, 0)
}

// connectTo makes a connection to one of the endpoints.
func connectTo(s shape, number int) (*clientv3.Client, error) {
	endpoints := strings.Split(s.target, ",")
	endpoint := endpoints[number%len(endpoints)]
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, DialTimeout: 10 * time.Second})
	if err != nil {
		return nil, fmt.Errorf("cannot connect to %s: %w", endpoint, err)
	}
	return client, nil
}

func main() {
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, os.Stderr))
	found, err := run(context.Background(), parse())
	if err == nil {
		err = found.print(os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
