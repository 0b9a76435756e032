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
	Operations int                `json:"operations"`
	Seconds    float64            `json:"seconds"`
	Errors     int                `json:"errors"`
	P50        float64            `json:"p50_ms"`
	P90        float64            `json:"p90_ms"`
	P99        float64            `json:"p99_ms"`
	P999       float64            `json:"p999_ms"`
	Longest    float64            `json:"longest_ms"`
	CPU        float64            `json:"cpu_seconds"`
	Extra      map[string]float64 `json:"extra"`
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

// measure has the callers call for so long; what is under way at the end is waited for and counts.
func measure(ctx context.Context, calls []call, rate, seconds float64) (load, error) {
	bounded, cancel := context.WithTimeout(ctx, time.Duration((seconds+60)*float64(time.Second)))
	defer cancel()
	spent, pace := processorTime(), newPace(rate, seconds)
	each := make([]seen, len(calls))
	var group sync.WaitGroup
	for caller := range calls {
		group.Add(1)
		go func() {
			defer group.Done()
			repeat(bounded, calls[caller], pace, &each[caller])
		}()
	}
	group.Wait()
	elapsed := time.Since(pace.began).Seconds()
	found := together(each)
	if len(found.latencies) == 0 {
		return load{}, fmt.Errorf("no call was answered; %d failed, the last with: %v", found.errors, found.last)
	}
	told := figures(found.latencies)
	told.Seconds, told.Errors, told.CPU = elapsed, found.errors, processorTime()-spent
	if n := pace.givenUp.Load(); n > 0 {
		told.Extra["given_up_calls"] = float64(n)
	}
	return told, nil
}

func repeat(ctx context.Context, one call, pace *pace, found *seen) {
	now := time.Now()
	for due, more := pace.next(now); more; due, more = pace.next(now) {
		if due.After(now) {
			time.Sleep(due.Sub(now))
		} else if pace.givesUp(now) {
			continue
		}
		err := one(ctx)
		now = time.Now()
		found.add(now.Sub(due), err)
	}
}

func figures(latencies []time.Duration) load {
	slices.Sort(latencies)
	at := func(share float64) float64 {
		index := min(int(share*float64(len(latencies))), len(latencies)-1)
		return float64(latencies[index].Microseconds()) / 1e3
	}
	return load{
		Operations: len(latencies), P50: at(0.5), P90: at(0.9), P99: at(0.99), P999: at(0.999), Longest: at(1),
		Extra: map[string]float64{},
	}
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
