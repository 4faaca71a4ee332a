//go:build linux

package main

import (
	"syscall"
	"time"
	"unsafe"
)

// clock counts from the start of the run, in all its processes alike: Linux has one CLOCK_MONOTONIC
// for a machine, which Go's own monotonic clock follows from another zero.
type clock struct {
	base time.Time     // a moment on this process's clock
	at0  time.Duration // and what the run's clock said then
}

// monotonic reads CLOCK_MONOTONIC.
func monotonic() time.Duration {
	const clockMonotonic = 1
	var t syscall.Timespec
	_, _, errno := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clockMonotonic,
		uintptr(unsafe.Pointer(&t)), 0)
	if errno != 0 {
		panic(errno) // no Linux refuses this
	}
	return time.Duration(t.Nano())
}

// newClock returns a clock whose zero is at origin on CLOCK_MONOTONIC. It is off by the time
// between two looks at most: the shortest of some.
func newClock(origin time.Duration) clock {
	var c clock
	shortest := time.Duration(1<<63 - 1)
	for range 1000 {
		before, now, after := monotonic(), time.Now(), monotonic()
		if after-before < shortest {
			shortest = after - before
			c = clock{base: now, at0: before - origin}
		}
	}
	return c
}

func (c clock) now() time.Duration { return c.at(time.Now()) }

func (c clock) at(t time.Time) time.Duration { return c.at0 + t.Sub(c.base) }
