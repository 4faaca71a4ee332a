package main

import (
	"os"

	"golang.org/x/sys/windows"
)

// enableEscapes lets an older console understand what a terminal understands. One that refuses
// shows them as they are.
func enableEscapes() {
	out := windows.Handle(os.Stdout.Fd())
	var mode uint32
	if windows.GetConsoleMode(out, &mode) == nil {
		_ = windows.SetConsoleMode(out, mode|windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING)
	}
}
