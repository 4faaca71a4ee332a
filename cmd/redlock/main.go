// Redlock is the command line tool of github.com/rediskit/redlock: it runs a command under a lock,
// and takes, extends, releases and shows locks. docs/cli.md is its manual.
package main

import (
	"os"
	"runtime"
)

// On Linux, the kernel kills COMMAND when the thread that started it ends. So it is started by the
// thread that ends with the process: see isolate.
func init() { runtime.LockOSThread() }

func main() { os.Exit(execute(os.Args[1:])) }
