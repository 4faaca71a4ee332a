package main

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rediskit/redlock"
)

// ledger sees everything, as no real worker can: it checks what the locks promise.
type ledger struct {
	mu       sync.Mutex
	open     map[string]entry  // guarded by mu, as is what follows: the jobs that are worked on
	last     map[string]string // job to the worker who began it last
	finished map[string]int    // how often each job was finished
	held     int               // how often a lock kept a second worker away
	takeover int               // how often a second worker began a job
}

type entry struct {
	worker string
	lock   *redlock.Handle
}

func newLedger() *ledger {
	return &ledger{open: map[string]entry{}, last: map[string]string{}, finished: map[string]int{}}
}

// begin notes that the worker begins the job, and returns who began it before, if anybody.
func (l *ledger) begin(worker string, lock *redlock.Handle, j job) (before string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	// A worker that never said that it ended is at it for as long as its lock is valid.
	if other, ok := l.open[j.name]; ok && time.Now().Before(other.lock.ValidUntil()) {
		return "", fmt.Errorf("%s and %s work on %s at once", other.worker, worker, j.name)
	}
	before = l.last[j.name]
	if before != "" {
		l.takeover++
	}
	l.open[j.name], l.last[j.name] = entry{worker, lock}, worker
	return before, nil
}

func (l *ledger) end(j job) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, j.name)
}

func (l *ledger) finish(j job) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.finished[j.name]++
}

func (l *ledger) refused() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held++
}

// check tells whether every job was finished once, and whether the locks had anything to prevent.
func (l *ledger) check(say func(who, format string, args ...any)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, j := range jobs {
		if n := l.finished[j.name]; n != 1 {
			return fmt.Errorf("%s was finished %d times", j.name, n)
		}
	}
	if l.held == 0 {
		return errors.New(
			"no job in progress was claimed by a second worker: the locks were not put to the test")
	}
	if l.takeover != 1 {
		return fmt.Errorf("one job should have been taken over after the crash, %d were",
			l.takeover)
	}
	say("ledger",
		"each of %d jobs finished once, never two workers on one; %d times a lock prevented that",
		len(jobs), l.held)
	return nil
}
