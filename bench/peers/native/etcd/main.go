// A load on etcd by its own client, as one process: closed loop or at a rate, on a few connections.
//
// The last line that it prints is a JSON object of the fields of bench.runs.results.Load.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/grpclog"
)

// shape is what the command line asks for.
type shape struct {
	target      string
	workload    string
	callers     int
	connections int
	valueBytes  int
	keys        int
	rate        float64
	seconds     float64
	warmUp      float64
}

func parse() shape {
	var s shape
	flag.StringVar(&s.target, "target", "", "endpoints by commas; the first is used")
	flag.StringVar(&s.workload, "workload", "write", "one of "+strings.Join(names(), ", "))
	flag.IntVar(&s.callers, "callers", 1, "calls under way at once")
	flag.IntVar(&s.connections, "connections", 0, "connections; 0: one for each 64 callers")
	flag.IntVar(&s.valueBytes, "value-bytes", 128, "size of the values")
	flag.IntVar(&s.keys, "keys", 1000, "number of keys")
	flag.Float64Var(&s.rate, "rate", 0, "calls a second, begun whether earlier ones are answered or not")
	flag.Float64Var(&s.seconds, "seconds", 4, "time of the measurement")
	flag.Float64Var(&s.warmUp, "warm-up", 1, "time before it")
	flag.Parse()
	if s.connections == 0 {
		s.connections = (s.callers + 63) / 64
	}
	return s
}

func run(s shape) error {
	make, known := workloads[s.workload]
	if !known {
		return fmt.Errorf("no workload %q: one of %s", s.workload, strings.Join(names(), ", "))
	}
	if s.target == "" || s.callers < 1 || s.seconds <= 0 {
		return fmt.Errorf("-target, -callers of at least 1 and -seconds above 0 are needed")
	}
	ctx := context.Background()
	clients, err := connect(s)
	if err != nil {
		return err
	}
	defer func() {
		for _, client := range clients {
			client.Close()
		}
	}()
	preparing, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := prepare(preparing, clients[0], s); err != nil {
		return fmt.Errorf("what the load needs cannot be written: %w", err)
	}
	calls := []call{}
	for caller := 0; caller < s.callers; caller++ {
		one, err := make(ctx, clients[caller%len(clients)], s, caller)
		if err != nil {
			return fmt.Errorf("caller %d cannot begin: %w", caller, err)
		}
		calls = append(calls, one)
	}
	if _, err := measure(ctx, calls, s, s.warmUp); err != nil {
		return err
	}
	load, err := measure(ctx, calls, s, s.seconds)
	if err != nil {
		return err
	}
	return load.print(os.Stdout)
}

// connect makes the connections, each to the first endpoint: the leader, where Python's client connects too.
func connect(s shape) ([]*clientv3.Client, error) {
	clients := []*clientv3.Client{}
	first, _, _ := strings.Cut(s.target, ",")
	for range s.connections {
		client, err := clientv3.New(clientv3.Config{Endpoints: []string{first}, DialTimeout: 10 * time.Second})
		if err != nil {
			return nil, fmt.Errorf("cannot connect to %s: %w", first, err)
		}
		clients = append(clients, client)
	}
	return clients, nil
}

func main() {
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(os.Stderr, os.Stderr, os.Stderr))
	if err := run(parse()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
