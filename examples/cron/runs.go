package main

import (
	"fmt"
	"sync"
	"time"
)

// runs is when the job was run, over all hosts.
type runs struct {
	want int

	mu  sync.Mutex
	all []interval // guarded by mu
}

// interval is when a host asked for the job, and when the job began.
type interval struct{ asked, began time.Time }

func newRuns(want int) *runs { return &runs{want: want} }

func (r *runs) add(asked, began time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, interval{asked, began})
}

func (r *runs) enough() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.all) >= r.want
}

// check tells whether every run kept its distance from the one before: the hold counts from some
// moment after the earlier one was asked for.
func (r *runs) check(hold time.Duration) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	const rounding = 2 * time.Millisecond // Redis counts milliseconds
	for i := 1; i < len(r.all); i++ {
		if apart := r.all[i].began.Sub(r.all[i-1].asked); apart < hold-rounding {
			return fmt.Errorf("the job ran twice within %v", apart)
		}
	}
	return nil
}
