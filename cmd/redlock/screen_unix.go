//go:build unix

package main

// enableEscapes has nothing to do: a terminal understands them.
func enableEscapes() {}
