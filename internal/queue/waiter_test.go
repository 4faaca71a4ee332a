package queue

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A claim asks the line whether it hears a node while it has its own mutex: a line that asked a claim
// for something with its mutex held would stop both for good.
func TestLineAsksNoClaimWithItsMutexHeld(t *testing.T) {
	l, servers := lineOver(t, 1)
	foreign(t, servers, "r")
	w := l.Join(l.keys("r"), time.Second)
	defer w.Leave()
	_, r := l.attempt(t, w)
	w.Refused(r)

	for name, ask := range map[string]func(){"Look": func() { l.Look(r) }, "Refused": func() { w.Refused(r) }} {
		t.Run(name, func(t *testing.T) {
			done := make(chan struct{})
			asked := make(chan struct{})
			c, again := l.attempt(t, w)
			r = again
			w.place.Sure = func(node int) bool { // now the claim's mutex is held
				go func() {
					close(asked)
					ask()
					close(done)
				}()
				<-asked
				time.Sleep(20 * time.Millisecond) // until it waits for the claim
				return l.sure(node)
			}
			cleaned := make(chan struct{})
			go func() {
				defer close(cleaned)
				c.Stand(limit, w.place).Send()
			}()
			within(t, cleaned, "the claim")
			within(t, done, name)
			w.place.Sure = l.sure
		})
	}
	require.Equal(t, 3, w.attempts+1)
}
