package node_test

import (
	"crypto/sha1"
	"encoding/hex"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rediskit/redlock/internal/locktest"
	"github.com/rediskit/redlock/internal/node"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, locktest.ClientLeaks()...)
}

// patience is how long a test waits for what takes milliseconds.
const patience = 15 * time.Second

// push appends its argument to the list that is its key, and answers with the list's length.
var push = script(pushSource)

const pushSource = `return redis.pcall('RPUSH', KEYS[1], ARGV[1])`

func script(source string) *node.Script {
	sum := sha1.Sum([]byte(source))
	return node.NewScript(source, hex.EncodeToString(sum[:]))
}

// inbox is a Receiver that keeps what it gets.
type inbox chan *node.Call

func newInbox() inbox { return make(inbox, 1<<14) }

func (i inbox) Receive(c *node.Call) bool {
	if c.Repeating {
		return false
	}
	i <- c
	return false
}

// next returns the next call that comes back.
func (i inbox) next(t *testing.T) *node.Call {
	t.Helper()
	select {
	case c := <-i:
		return c
	case <-time.After(patience):
		require.Fail(t, "no call came back")
		return nil
	}
}

// collect waits for that many calls.
func (i inbox) collect(t *testing.T, n int) []*node.Call {
	t.Helper()
	calls := make([]*node.Call, n)
	for k := range calls {
		calls[k] = i.next(t)
	}
	return calls
}

// collectAll waits for these calls, in any order, and returns them in theirs.
func (i inbox) collectAll(t *testing.T, calls []*node.Call) []*node.Call {
	t.Helper()
	require.ElementsMatch(t, calls, i.collect(t, len(calls)))
	return calls
}

// receiver makes a Receiver of a function.
type receiver func(c *node.Call) bool

func (f receiver) Receive(c *node.Call) bool { return !c.Repeating && f(c) }

// pushCall returns a call that pushes the value.
func pushCall(to node.Receiver, key, value string) *node.Call {
	return &node.Call{Script: push, Keys: []string{key}, Args: []any{value}, Receiver: to}
}

func eventually(t *testing.T, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, patience, time.Millisecond)
}
