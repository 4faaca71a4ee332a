//go:build !unix

package redistest

import "syscall"

// Without job control these only make os.Process.Signal report an error.
const (
	sigStop = syscall.Signal(0x13)
	sigCont = syscall.Signal(0x12)
)
