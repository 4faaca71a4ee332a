package main

import "syscall"

// dieWithUs has the kernel kill COMMAND when redlock is killed, since nobody would be left to end
// it when the lock ends. It concerns COMMAND itself, not its children.
func dieWithUs(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
