package redlock

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/node"
	"github.com/rediskit/redlock/internal/quorum"
)

// A grant that comes between the decision and the look at when to try again is as good as one before it.
func TestWaiterCountsANodeThatGrantedAfterTheDecision(t *testing.T) {
	l := &Locker{nodes: make([]*node.Node, 3), sharded: make([]bool, 3)}
	c := &claim{}
	c.init(l, &plan{resources: []string{"a"}, keys: []string{"a"}}, "token")
	r := c.newRound(acquireVerb, 3, time.Second)
	for i, err := range []error{
		&refusal{owner: "x", left: 400 * time.Millisecond}, &refusal{owner: "x", left: time.Hour}, nil,
	} {
		r.requests[i].err = err
		r.vote(&r.requests[i])
	}
	require.Equal(t, quorum.Refused, r.outcome, "decided by the first two")
	require.Equal(t, 401*time.Millisecond, r.freeIn())
}
