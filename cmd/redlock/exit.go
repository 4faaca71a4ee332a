package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/rediskit/redlock"
)

// The exit codes that do not come from COMMAND. Where sysexits.h and timeout(1) have one, it is
// theirs.
const (
	codeLocked   = 1   // of status: at least one lock is not free; of check: something is wrong
	codeNoQuorum = 69  // EX_UNAVAILABLE: too few nodes answered
	codeHeld     = 75  // EX_TEMPFAIL: somebody else has the lock
	codeLost     = 124 // the lock was lost while COMMAND ran
	codeSelf     = 125 // redlock itself: usage, configuration
	codeNotRun   = 126 // COMMAND cannot be run
	codeNotFound = 127 // COMMAND was not found
	codeSignal   = 128 // and the number of the signal
)

// exit is an error with an exit code of its own. Without an error it says nothing.
type exit struct {
	code int
	err  error
}

func (e *exit) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exit) Unwrap() error { return e.err }

// signalled says that a signal has ended what redlock was doing.
type signalled struct{ signal os.Signal }

func (s signalled) Error() string { return fmt.Sprintf("ended by a signal: %v", s.signal) }

// codeOf returns the exit code that an error stands for.
func codeOf(err error) int {
	var own *exit
	var ended signalled
	switch {
	case err == nil:
		return 0
	case errors.As(err, &own):
		return own.code
	case errors.As(err, &ended):
		if n, ok := ended.signal.(syscall.Signal); ok {
			return codeSignal + int(n)
		}
		return codeSelf
	case errors.Is(err, redlock.ErrMisconfigured): // before ErrNoQuorum, which it matches too
		return codeSelf
	case errors.Is(err, redlock.ErrHeld):
		return codeHeld
	case errors.Is(err, redlock.ErrNoQuorum):
		return codeNoQuorum
	case errors.Is(err, redlock.ErrLost):
		return codeLost
	default:
		return codeSelf
	}
}
