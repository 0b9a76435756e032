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

// fanout puts again and again, each when all watchers, each on a connection of its own, know of the one before.
func fanout(ctx context.Context, client *clientv3.Client, s shape) (load, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	told := make(chan error, watchers)
	for range watchers {
		own, err := connect(s)
		if err != nil {
			return load{}, err
		}
		defer own.Close()
		go watch(ctx, own, told)
	}
	everyone := func(ctx context.Context) error {
		for range watchers {
			select {
			case err := <-told:
				if err != nil {
					return err
				}
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	}
	if err := everyone(ctx); err != nil {
		return load{}, fmt.Errorf("not everyone watches: %w", err)
	}
	value := strings.Repeat("x", s.valueBytes)
	change := func(ctx context.Context) error {
		if _, err := client.Put(ctx, key(0), value); err != nil {
			return err
		}
		return everyone(ctx)
	}
	found, err := warmUpAndMeasure(ctx, []call{change}, s)
	found.Operations *= watchers
	return found, err
}

// watch says so when it watches, and then of each change.
func watch(ctx context.Context, own *clientv3.Client, told chan<- error) {
	for answer := range own.Watch(ctx, key(0), clientv3.WithCreatedNotify()) {
		if err := answer.Err(); err != nil {
			told <- err
			return
		}
		if answer.Created {
			told <- nil
		}
		for range answer.Events {
			told <- nil
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
