package main

import (
	"os"
	"syscall"
)

// forwarded are the signals that go on to COMMAND: Ctrl-C, and the end of the console or session.
var forwarded = []os.Signal{os.Interrupt, syscall.SIGTERM}

// asksToEnd reports whether a signal ends a wait for the lock.
func asksToEnd(os.Signal) bool { return true }
