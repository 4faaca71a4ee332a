package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/rediskit/redlock"
)

// watch looks after COMMAND and its lock until both have ended.
type watch struct {
	l       *locker
	h       *redlock.Handle
	cmd     *command
	name    string // of COMMAND
	grace   time.Duration
	signals <-chan os.Signal
	warned  bool // COMMAND was sent TERM, since the lock was about to end
}

// flushTime is what is left for last words when the lock has ended.
const flushTime = 100 * time.Millisecond

// run returns when COMMAND has ended.
func (w *watch) run() error {
	lost, alarm := w.h.Done(), time.NewTimer(w.untilGrace())
	defer alarm.Stop()
	for {
		select {
		case err := <-w.cmd.exited:
			return w.ended(err)
		case <-lost:
			lost = nil // for the next round: COMMAND may take a moment to die
			w.report(fmt.Errorf("the lock is lost: %s is killed", w.name), w.cmd.kill())
		case s := <-w.signals:
			w.report(nil, w.cmd.forward(s))
		case <-alarm.C:
			w.nearEnd(alarm)
		}
	}
}

// untilGrace returns how long COMMAND may still go on if the lock is not renewed.
func (w *watch) untilGrace() time.Duration { return time.Until(w.h.ValidUntil().Add(-w.grace)) }

// nearEnd asks COMMAND to end if the lock is about to, and has not been renewed meanwhile.
func (w *watch) nearEnd(alarm *time.Timer) {
	if left := w.untilGrace(); left > 0 {
		alarm.Reset(left)
		return
	}
	if w.warned || w.grace == 0 {
		return
	}
	w.warned = true
	w.report(fmt.Errorf("the lock ends in %v and was not renewed: %s gets TERM", short(w.grace),
		w.name), w.cmd.terminate())
}

// report tells what was done to COMMAND, and whether it failed.
func (w *watch) report(done, failed error) {
	if done != nil {
		complain(done)
	}
	if failed != nil {
		complain(fmt.Errorf("a signal could not be sent to %s: %w", w.name, failed))
	}
}

// ended gives the lock up and returns what COMMAND came to.
func (w *watch) ended(err error) error {
	if err != nil {
		err = fmt.Errorf("how %s ended is unknown: %w", w.name, err)
	} else if code := statusOf(w.cmd.state); code != 0 {
		err = &exit{code: code}
	}
	until, lost := w.h.ValidUntil(), w.h.Err() != nil
	if lost || w.warned {
		w.report(nil, w.cmd.killRest())
	}
	if !lost {
		released := w.h.Release(context.Background())
		lost = errors.Is(released, redlock.ErrLost)
		if released != nil {
			complain(released)
		}
	}
	if lost || w.warned {
		w.l.close(flushTime)
		return &exit{codeLost, fmt.Errorf("%s was not done before its lock ended (%v)", w.name,
			w.cmd.state)}
	}
	w.l.said("%s has ended (%v): the lock is released", w.name, w.cmd.state)
	w.l.close(max(flushTime, min(closeTime, time.Until(until))))
	return err
}
