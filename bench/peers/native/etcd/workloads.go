package main

import (
	"context"
	"fmt"
	"math/rand"
	"slices"
	"strconv"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

const (
	prefix  = "bench/entries/"
	counter = "bench/count"
)

// call is what one caller repeats.
type call func(context.Context) error

// maker makes the call of one caller.
type maker func(ctx context.Context, client *clientv3.Client, s shape, caller int) (call, error)

var workloads = map[string]maker{
	"write":           writes,
	"read":            reads(),
	"read-sequential": reads(clientv3.WithSerializable()),
	"mixed":           mixed,
	"counter":         increments,
	"lock":            locks(func(caller int) int { return caller }),
	"lock-contended":  locks(func(int) int { return 0 }),
	"sessions":        sessions,
}

// special are the workloads that are not made of calls which each caller repeats by itself.
var special = map[string]func(context.Context, *clientv3.Client, shape) (load, error){
	"fanout":   fanout,
	"election": election,
}

func names() []string {
	found := []string{}
	for name := range workloads {
		found = append(found, name)
	}
	for name := range special {
		found = append(found, name)
	}
	slices.Sort(found)
	return found
}

// prepare writes every key once, in transactions of the hundred operations that etcd takes.
func prepare(ctx context.Context, client *clientv3.Client, s shape) error {
	value := strings.Repeat("x", s.valueBytes)
	batch := max(1, min(100, 1_000_000/(s.valueBytes+64)))
	for low := 0; low < s.keys; low += batch {
		puts := []clientv3.Op{}
		for n := low; n < min(low+batch, s.keys); n++ {
			puts = append(puts, clientv3.OpPut(key(n), value))
		}
		if _, err := client.Txn(ctx).Then(puts...).Commit(); err != nil {
			return err
		}
	}
	_, err := client.Put(ctx, counter, "0")
	return err
}

func key(n int) string {
	return fmt.Sprintf("%skey%06d", prefix, n)
}

func writes(_ context.Context, client *clientv3.Client, s shape, caller int) (call, error) {
	draw, value := rand.New(rand.NewSource(int64(caller))), strings.Repeat("x", s.valueBytes)
	return func(ctx context.Context) error {
		_, err := client.Put(ctx, key(draw.Intn(s.keys)), value)
		return err
	}, nil
}

func reads(options ...clientv3.OpOption) maker {
	return func(_ context.Context, client *clientv3.Client, s shape, caller int) (call, error) {
		draw := rand.New(rand.NewSource(int64(caller)))
		return func(ctx context.Context) error {
			found, err := client.Get(ctx, key(draw.Intn(s.keys)), options...)
			if err == nil && len(found.Kvs) != 1 {
				return fmt.Errorf("a key that was written is not there")
			}
			return err
		}, nil
	}
}

// mixed reads nine times for each write.
func mixed(ctx context.Context, client *clientv3.Client, s shape, caller int) (call, error) {
	write, _ := writes(ctx, client, s, caller)
	read, _ := reads()(ctx, client, s, caller+s.callers)
	draw := rand.New(rand.NewSource(int64(caller)))
	return func(ctx context.Context) error {
		if draw.Intn(10) == 0 {
			return write(ctx)
		}
		return read(ctx)
	}, nil
}

// increments adds one to a counter that all share: etcd has no such command, its client has transactions
// that are tried again.
func increments(_ context.Context, client *clientv3.Client, _ shape, _ int) (call, error) {
	return func(ctx context.Context) error {
		_, err := concurrency.NewSTM(client, func(stm concurrency.STM) error {
			count, err := strconv.Atoi(stm.Get(counter))
			if err != nil {
				return err
			}
			stm.Put(counter, strconv.Itoa(count+1))
			return nil
		}, concurrency.WithAbortContext(ctx))
		return err
	}, nil
}

// locks acquires and releases by etcd's recipe, with a session for each caller.
func locks(number func(caller int) int) maker {
	return func(ctx context.Context, client *clientv3.Client, s shape, caller int) (call, error) {
		session, err := concurrency.NewSession(client, concurrency.WithTTL(60), concurrency.WithContext(ctx))
		if err != nil {
			return nil, err
		}
		mutex := concurrency.NewMutex(session, fmt.Sprintf("bench/lock-%d", number(caller)))
		return func(ctx context.Context) error {
			if err := mutex.Lock(ctx); err != nil {
				return err
			}
			return mutex.Unlock(ctx)
		}, nil
	}
}
