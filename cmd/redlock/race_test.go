//go:build race

package main_test

// underRace says that the program is to be built for the race detector too.
const underRace = true
