//go:build unix

package main

import (
	"os"
	"syscall"
)

// forwarded are the signals that go on to COMMAND.
var forwarded = []os.Signal{
	syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGUSR1,
	syscall.SIGUSR2,
}

// asksToEnd reports whether a signal ends a wait for the lock.
func asksToEnd(s os.Signal) bool { return s != syscall.SIGUSR1 && s != syscall.SIGUSR2 }

// fromTerminal reports whether a terminal sends the signal, and then to everybody in the
// foreground.
func fromTerminal(s os.Signal) bool { return s == syscall.SIGINT || s == syscall.SIGQUIT }
