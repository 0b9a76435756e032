package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sync"
	"syscall"
	"time"
)

// load is bench.runs.results.Load, with percentiles alone.
type load struct {
	Operations int     `json:"operations"`
	Seconds    float64 `json:"seconds"`
	Errors     int     `json:"errors"`
	P50        float64 `json:"p50_ms"`
	P90        float64 `json:"p90_ms"`
	P99        float64 `json:"p99_ms"`
	P999       float64 `json:"p999_ms"`
	Longest    float64 `json:"longest_ms"`
	CPU        float64 `json:"cpu_seconds"`
}

func (l load) print(to io.Writer) error {
	return json.NewEncoder(to).Encode(l)
}

// seen is what callers found.
type seen struct {
	latencies []time.Duration
	errors    int
	last      error
}

func (s *seen) add(latency time.Duration, err error) {
	if err != nil {
		s.errors++
		s.last = err
		return
	}
	s.latencies = append(s.latencies, latency)
}

// measure runs the callers for so long; what is under way at the end is waited for and counts.
func measure(ctx context.Context, calls []call, s shape, seconds float64) (load, error) {
	if seconds <= 0 {
		return load{}, nil
	}
	bounded, cancel := context.WithTimeout(ctx, time.Duration((seconds+60)*float64(time.Second)))
	defer cancel()
	spent, began := processorTime(), time.Now()
	var found seen
	if s.rate > 0 {
		found = openLoop(bounded, calls, s.rate, began, seconds)
	} else {
		found = closedLoop(bounded, calls, began, seconds)
	}
	elapsed := time.Since(began).Seconds()
	if len(found.latencies) == 0 {
		return load{}, fmt.Errorf("no call was answered; the last said: %v", found.last)
	}
	slices.Sort(found.latencies)
	at := func(share float64) float64 {
		index := min(int(share*float64(len(found.latencies))), len(found.latencies)-1)
		return float64(found.latencies[index].Microseconds()) / 1e3
	}
	return load{
		Operations: len(found.latencies), Seconds: elapsed, Errors: found.errors,
		P50: at(0.5), P90: at(0.9), P99: at(0.99), P999: at(0.999), Longest: at(1),
		CPU: processorTime() - spent,
	}, nil
}

// closedLoop has each caller call again when it is answered.
func closedLoop(ctx context.Context, calls []call, began time.Time, seconds float64) seen {
	stop := began.Add(time.Duration(seconds * float64(time.Second)))
	each := make([]seen, len(calls))
	var group sync.WaitGroup
	for caller := range calls {
		group.Add(1)
		go func() {
			defer group.Done()
			for at := time.Now(); at.Before(stop); {
				err := calls[caller](ctx)
				now := time.Now()
				each[caller].add(now.Sub(at), err)
				at = now
			}
		}()
	}
	group.Wait()
	return together(each)
}

// openLoop hands the calls that are due to whoever is free; latencies count from when a call was due.
func openLoop(ctx context.Context, calls []call, rate float64, began time.Time, seconds float64) seen {
	number := int(rate * seconds)
	due := make(chan time.Time, number)
	each := make([]seen, len(calls))
	var group sync.WaitGroup
	for caller := range calls {
		group.Add(1)
		go func() {
			defer group.Done()
			for at := range due {
				err := calls[caller](ctx)
				each[caller].add(time.Since(at), err)
			}
		}()
	}
	for n := range number {
		at := began.Add(time.Duration(float64(n) / rate * float64(time.Second)))
		time.Sleep(time.Until(at))
		due <- at
	}
	close(due)
	group.Wait()
	return together(each)
}

func together(each []seen) seen {
	var all seen
	for _, one := range each {
		all.latencies = append(all.latencies, one.latencies...)
		all.errors += one.errors
		if one.last != nil {
			all.last = one.last
		}
	}
	return all
}

func processorTime() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9
}
