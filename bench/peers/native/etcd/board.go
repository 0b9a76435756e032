package main

import (
	"fmt"
	"sync"
	"time"
)

const settle = 60 * time.Second

// board knows how many watchers have been told of each change, by its number from 0.
type board struct {
	mutex   sync.Mutex
	had     [watchers]int
	counts  []int
	arrived []time.Time
	changed chan struct{}
}

func newBoard() *board {
	return &board{changed: make(chan struct{}, 1)}
}

// told notes that a watcher was told of its next change.
func (b *board) told(watcher int) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	number := b.had[watcher]
	b.had[watcher]++
	if number == len(b.counts) {
		b.counts = append(b.counts, 0)
	}
	b.counts[number]++
	if b.counts[number] == watchers {
		b.arrived = append(b.arrived, time.Now())
		select {
		case b.changed <- struct{}{}:
		default:
		}
	}
}

// until waits until all watchers know of so many changes.
func (b *board) until(count int) error {
	deadline := time.After(settle)
	for b.known() < count {
		select {
		case <-b.changed:
		case <-deadline:
			return fmt.Errorf("of %d changes only %d came to all watchers within %v", count, b.known(), settle)
		}
	}
	return nil
}

func (b *board) known() int {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return len(b.arrived)
}

// run puts for so long, and waits until all of it arrived everywhere.
func (b *board) run(put func() error, seconds float64) (load, error) {
	first, puts := b.known(), []time.Time{}
	spent, pace := processorTime(), newPace(0, seconds)
	for due, more := pace.next(time.Now()); more; due, more = pace.next(time.Now()) {
		if err := put(); err != nil {
			return load{}, err
		}
		puts = append(puts, due)
	}
	if err := b.until(first + len(puts)); err != nil {
		return load{}, err
	}
	elapsed := time.Since(pace.began).Seconds()
	latencies := []time.Duration{}
	for number, due := range puts {
		latencies = append(latencies, b.arrived[first+number].Sub(due))
	}
	found := figures(latencies)
	found.Operations, found.Seconds, found.CPU = watchers*len(puts), elapsed, processorTime()-spent
	found.Extra["writes"] = float64(len(puts))
	return found, nil
}
