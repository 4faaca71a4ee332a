package redlock_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// message is a call that one handle, whose token is "mine", may send to a node for the key "a".
type message struct {
	verb   string // acquire, keep, cut or release
	number int
	ttl    int // in seconds, tens of them
}

// messages are those of a handle that shortens its lock twice. The second acquire gives the key
// back to a node that lost it.
var messages = []message{
	{"acquire", 0, 60}, {"keep", 0, 100}, {"cut", 1, 20}, {"keep", 1, 90},
	{"acquire", 1, 70}, {"cut", 2, 10}, {"keep", 2, 80}, {"release", 2, 0},
}

func (m message) String() string { return fmt.Sprintf("%s %d", m.verb, m.number) }

// call returns the message's script and arguments.
func (m message) call() (script string, args []any) {
	switch m.verb {
	case "acquire":
		return "acquire", []any{value(m.number), m.ttl * 1000, 1}
	case "release":
		return "release", []any{"mine", m.number}
	default:
		return "extend", []any{"mine", m.number, m.ttl * 1000, m.verb}
	}
}

// value is what stands under a key of the handle.
func value(number int) string {
	if number == 0 {
		return "mine"
	}
	return fmt.Sprintf("%d~mine", number)
}

// lockState is what a node has under the key, which is the handle's or does not exist.
type lockState struct {
	there  bool
	number int
	left   int // in seconds, to the nearest ten
}

// after is what the scripts are to make of a message, and whether they say yes.
func (s lockState) after(m message) (after lockState, yes bool) {
	switch {
	case !s.there && m.verb == "acquire":
		return lockState{true, m.number, m.ttl}, true
	case !s.there:
		return s, m.verb == "release"
	case s.number > m.number, m.verb == "acquire" && s.number != m.number:
		return s, false
	case m.verb == "release":
		return lockState{}, true
	case m.verb == "cut" && s.number == m.number:
		return s, true
	case m.verb == "cut":
		return lockState{true, m.number, m.ttl}, true
	default:
		return lockState{true, m.number, max(s.left, m.ttl)}, true
	}
}

// Whatever a handle has sent may arrive late, twice, or in another order. All orders of four
// messages are tried, and in them those of fewer.
func TestScriptsTakeMessagesInEveryOrder(t *testing.T) {
	noLeak(t)
	for server, client := range bothServers(t) {
		t.Run(server, func(t *testing.T) {
			firsts := messages
			if server == "miniredis" {
				// its Lua is slow, and little happens to a key that is not there
				firsts = messages[:1]
			}
			for _, first := range firsts {
				var orders []*order
				for _, second := range messages {
					for _, third := range messages {
						for _, fourth := range messages {
							orders = append(orders,
								&order{sent: []message{first, second, third, fourth}})
						}
					}
				}
				receive(t, client, orders)
				for _, o := range orders {
					o.requireModel(t)
					o.requirePromises(t)
				}
			}
		})
	}
}

// order is a sequence of messages and what came of it.
type order struct {
	sent   []message
	states []lockState // before each message, and after the last
	said   []bool      // whether the node said yes
}

// receive runs the orders, one after the other.
func receive(t *testing.T, client *redis.Client, orders []*order) {
	t.Helper()
	ctx := t.Context()
	digests := map[string]string{}
	for _, script := range []string{"acquire", "extend", "release"} {
		digest, err := client.ScriptLoad(ctx, scriptSource(t, script)).Result()
		require.NoError(t, err)
		digests[script] = digest
	}
	for _, o := range orders {
		o.receive(t, client, digests)
	}
}

// receive runs the messages on a server without the key. One pipeline for many orders would take
// longer on a busy machine than go-redis waits for it: it would send them all again, while the
// server is still at the first ones.
func (o *order) receive(t *testing.T, client *redis.Client, digests map[string]string) {
	t.Helper()
	ctx := t.Context()
	pipe := client.Pipeline()
	pipe.Del(ctx, "a")
	for _, m := range o.sent {
		script, args := m.call()
		pipe.EvalSha(ctx, digests[script], []string{"a"}, args...)
		pipe.Get(ctx, "a")
		pipe.Do(ctx, "pttl", "a")
	}
	replies, err := pipe.Exec(ctx)
	require.True(t, err == nil || err == redis.Nil, err)
	replies = replies[1:]
	o.states = append(o.states, lockState{})
	for range o.sent {
		reply, err := replies[0].(*redis.Cmd).Result()
		require.NoError(t, err)
		o.said = append(o.said, reply == yes)
		value, err := replies[1].(*redis.StringCmd).Result()
		o.states = append(o.states, newLockState(t, value, err == nil,
			replies[2].(*redis.Cmd).Val().(int64)))
		replies = replies[3:]
	}
}

func newLockState(t *testing.T, text string, there bool, pttl int64) lockState {
	t.Helper()
	if !there {
		return lockState{}
	}
	number := slices.IndexFunc([]int{0, 1, 2}, func(n int) bool { return value(n) == text })
	require.NotEqual(t, -1, number, text)
	return lockState{true, number, int(pttl+5000) / 10_000 * 10}
}

func (o *order) requireModel(t *testing.T) {
	t.Helper()
	for i, m := range o.sent {
		after, yes := o.states[i].after(m)
		if after != o.states[i+1] || yes != o.said[i] {
			t.Fatalf("message %d of %v: %v, %v; want %v, %v", i+1, o.sent, o.states, o.said, after,
				yes)
		}
	}
}

// requirePromises checks what the handle relies on, whatever the model says.
func (o *order) requirePromises(t *testing.T) {
	t.Helper()
	given := -1 // the greatest number of a message that gave the key time, since it was made
	for i, m := range o.sent {
		before, after := o.states[i], o.states[i+1]
		made, deleted := !before.there && after.there, before.there && !after.there
		promise := func(kept bool, what string) {
			if !kept {
				t.Fatalf("%s: message %d of %v: %v, %v", what, i+1, o.sent, o.states, o.said)
			}
		}
		if made {
			promise(m.verb == "acquire", "only an acquire makes a key")
			given = -1
		}
		if deleted {
			promise(m.verb == "release", "only a release deletes")
		}
		if !deleted && after.left < before.left {
			promise(m.verb == "cut", "only a cut takes time away")
			promise(m.number > given,
				"no cut takes away what was given with its number or a greater one")
		}
		if o.said[i] && m.verb == "release" {
			promise(!after.there, "a yes to a release says that nothing is left")
		}
		if o.said[i] && (m.verb == "acquire" || m.verb == "keep") {
			promise(after.left >= m.ttl, "a yes gives the time")
			given = max(given, m.number)
		}
	}
}
