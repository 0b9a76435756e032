package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

const (
	watchers = 1000
	seat     = "bench/election"
)

// sessions makes clients of their own for one read each.
func sessions(_ context.Context, _ *clientv3.Client, s shape, caller int) (call, error) {
	return func(ctx context.Context) error {
		own, err := connect(s)
		if err != nil {
			return err
		}
		defer own.Close()
		read, _ := reads()(ctx, own, s, caller)
		return read(ctx)
	}, nil
}

// fanout puts again when it is answered, while watchers, each on a connection of its own to one of the servers,
// are told: an operation is an event that arrived, a latency that of a put until the last watcher has it.
func fanout(ctx context.Context, client *clientv3.Client, s shape) (load, error) {
	if s.callers != 1 {
		return load{}, fmt.Errorf("fanout is written by one caller here: only then is a change known by its number")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	told := newBoard()
	ready := make(chan error, watchers)
	for number := range watchers {
		own, err := connectTo(s, number)
		if err != nil {
			return load{}, err
		}
		defer own.Close()
		go watch(ctx, own, number, told, ready)
	}
	for range watchers {
		if err := <-ready; err != nil {
			return load{}, fmt.Errorf("not everyone watches: %w", err)
		}
	}
	value := strings.Repeat("x", s.valueBytes)
	put := func() error {
		_, err := client.Put(ctx, key(0), value)
		return err
	}
	if s.warmUp > 0 {
		if _, err := told.run(put, s.warmUp); err != nil {
			return load{}, err
		}
	}
	begun()
	return told.run(put, s.seconds)
}

// watch says so when it watches, and then tells the board of each change.
func watch(ctx context.Context, own *clientv3.Client, number int, told *board, ready chan<- error) {
	for answer := range own.Watch(ctx, key(0), clientv3.WithCreatedNotify()) {
		if answer.Created {
			ready <- nil
		}
		if answer.Err() != nil {
			return // The changes that are missed then are waited for in vain, and that is said.
		}
		for range answer.Events {
			told.told(number)
		}
	}
}

// election hands leadership to and fro between two campaigners, each a client of its own, by etcd's recipe.
// Who leads resigns once the other stands; timed is from there until the other leads.
func election(ctx context.Context, client *clientv3.Client, s shape) (load, error) {
	sides := []*concurrency.Election{}
	for range 2 {
		own, err := connect(s)
		if err != nil {
			return load{}, err
		}
		defer own.Close()
		session, err := concurrency.NewSession(own, concurrency.WithTTL(60))
		if err != nil {
			return load{}, err
		}
		defer session.Close()
		sides = append(sides, concurrency.NewElection(session, seat))
	}
	if err := sides[0].Campaign(ctx, "0"); err != nil {
		return load{}, err
	}
	handOver := func(ctx context.Context) (time.Duration, error) { return handOver(ctx, client, sides) }
	if _, err := timed(ctx, handOver, s.warmUp); err != nil {
		return load{}, err
	}
	begun()
	return timed(ctx, handOver, s.seconds)
}

// timed repeats for so long what times itself, at least once.
func timed(ctx context.Context, one func(context.Context) (time.Duration, error), seconds float64) (load, error) {
	var found []time.Duration
	spent, pace := processorTime(), newPace(0, seconds)
	for len(found) == 0 || time.Now().Before(pace.end) {
		took, err := one(ctx)
		if err != nil {
			return load{}, err
		}
		found = append(found, took)
	}
	told := figures(found)
	told.Seconds, told.CPU = time.Since(pace.began).Seconds(), processorTime()-spent
	return told, nil
}

// handOver begins with sides[0] in the lead and ends with the other there, which is sides[0] then.
func handOver(ctx context.Context, client *clientv3.Client, sides []*concurrency.Election) (time.Duration, error) {
	leads := make(chan error, 1)
	go func() { leads <- sides[1].Campaign(ctx, "1") }()
	for {
		stand, err := client.Get(ctx, seat+"/", clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err != nil {
			return 0, err
		}
		if stand.Count > 1 {
			break
		}
	}
	at := time.Now()
	if err := sides[0].Resign(ctx); err != nil {
		return 0, err
	}
	err := <-leads
	sides[0], sides[1] = sides[1], sides[0]
	return time.Since(at), err
}
