//go:build !linux

package redistest

import "syscall"

// sysProcAttr has nothing to offer: only Linux has a parent-death signal.
func sysProcAttr() *syscall.SysProcAttr { return nil }

// waitStopped trusts the signal: there is no portable way to ask.
func waitStopped(*process) error { return nil }
