package main

import (
	"sync/atomic"
	"time"
)

const (
	operationsMax = 4_000_000
	late          = 5 * time.Second
)

// pace says when calls are due, as bench.runs.recording.Pace does: at once in a closed loop, else at a rate.
type pace struct {
	rate    float64
	began   time.Time
	end     time.Time
	number  atomic.Int64
	givenUp atomic.Int64
}

func newPace(rate, seconds float64) *pace {
	began := time.Now()
	return &pace{rate: rate, began: began, end: began.Add(time.Duration(seconds * float64(time.Second)))}
}

// next says when the next call is due, each asked for once; false if there is no further one.
func (p *pace) next(now time.Time) (time.Time, bool) {
	number := p.number.Add(1) - 1
	if number >= operationsMax {
		return now, false
	}
	due := now
	if p.rate > 0 {
		due = p.began.Add(time.Duration(float64(number) / p.rate * float64(time.Second)))
	}
	return due, due.Before(p.end)
}

// givesUp says whether it is too late to begin a call that was due, which is counted then.
func (p *pace) givesUp(now time.Time) bool {
	if now.Before(p.end.Add(late)) {
		return false
	}
	p.givenUp.Add(1)
	return true
}
