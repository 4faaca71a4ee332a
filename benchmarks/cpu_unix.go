//go:build unix

package main

import (
	"syscall"
	"time"
)

// cpuTime returns what this process has used of the processors, in user and system mode. The
// servers are other processes.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
