package node_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/node"
)

func TestLoneCallIsAPlainEVALSHA(t *testing.T) {
	l := newLine(t)
	n, in := l.newNode(t), newInbox()

	for i := range 3 {
		require.True(t, n.Send(pushCall(in, "list", "x")))
		c := in.next(t)
		require.NoError(t, c.Err)
		require.EqualValues(t, i+1, c.Reply)
	}
	lone := trip{pipeline: false, commands: []string{"evalsha"}}
	require.Equal(t, []trip{lone, lone, lone}, l.begun())
}

func TestUnknownScriptIsSentAsText(t *testing.T) {
	l := newLine(t)
	n, in := l.newNode(t), newInbox()
	l.server.Do(t, "script", "flush")

	for range 2 {
		require.True(t, n.Send(pushCall(in, "list", "x")))
		require.NoError(t, in.next(t).Err)
	}
	require.Equal(t, []int{1, 1, 1}, l.sizes())
	require.Equal(t, []string{"evalsha"}, l.begun()[0].commands)
	require.Equal(t, []string{"eval"}, l.begun()[1].commands)
	require.Equal(t, []string{"evalsha"}, l.begun()[2].commands, "the text has loaded the script")
	require.Equal(t, []string{"x", "x"}, l.list(t, "list"))
}

func TestEachCallOfARoundTripHasItsOwnResult(t *testing.T) {
	l := newLine(t)
	n, in := l.newNode(t), newInbox()
	l.server.Do(t, "set", "string", 1)
	occupy(t, l, n, in)

	good, bad, alsoGood := pushCall(in, "a", "x"), pushCall(in, "string", "x"),
		pushCall(in, "b", "x")
	for _, c := range []*node.Call{good, bad, alsoGood} {
		require.True(t, n.Send(c))
	}
	l.resume()
	in.collect(t, 5)

	require.Equal(t, []int{1, 1, 3}, l.sizes())
	require.ErrorContains(t, bad.Err, "WRONGTYPE")
	for _, c := range []*node.Call{good, alsoGood} {
		require.NoError(t, c.Err)
		require.EqualValues(t, 1, c.Reply)
	}
}

// A restarted server has lost its scripts, and calls that use them share a pipeline with others
// whose scripts are there.
func TestOnlyCallsOfUnknownScriptsAreSentAgain(t *testing.T) {
	l := newLine(t)
	n, in := l.newNode(t), newInbox()
	unknown := script(pushSource + " -- not loaded")
	occupy(t, l, n, in)

	var calls []*node.Call
	for i := range 6 {
		c := pushCall(in, fmt.Sprint("list", i), "x")
		if i%3 == 0 {
			c.Script = unknown
		}
		calls = append(calls, c)
		require.True(t, n.Send(c))
	}
	l.resume()
	in.collect(t, 2+len(calls))

	require.Equal(t, []trip{
		{pipeline: true, commands: slices.Repeat([]string{"evalsha"}, 6)},
		{pipeline: true, commands: []string{"eval", "eval"}},
	}, l.begun()[2:])
	for i, c := range calls {
		require.NoError(t, c.Err)
		require.EqualValues(t, 1, c.Reply)
		require.Equal(t, []string{"x"}, l.list(t, fmt.Sprint("list", i)), "each ran once")
	}
}

func TestKeysAndArgumentsGoOutAsGiven(t *testing.T) {
	l := newLine(t)
	// no more workers than the base, however busy the machine makes the node look distant
	l.client.Options().PoolSize = 2
	n, in := l.newNode(t), newInbox()
	echo := script("return {#KEYS, cjson.encode(KEYS), cjson.encode(ARGV)}")
	send := func() (calls []*node.Call) {
		for _, c := range []node.Call{
			{Keys: []string{"a"}},
			{Keys: []string{"a", "b"}, Args: []any{"x", int64(1) << 52}},
			{Args: []any{[]byte("y")}},
		} {
			c.Script, c.Receiver = echo, in
			calls = append(calls, &c)
			require.True(t, n.Send(&c))
		}
		return calls
	}
	check := func(calls []*node.Call) {
		t.Helper()
		for i, want := range [][]any{
			{int64(1), `["a"]`, `{}`},
			{int64(2), `["a","b"]`, `["x","4503599627370496"]`},
			{int64(0), `{}`, `["y"]`},
		} {
			require.NoError(t, calls[i].Err)
			require.Equal(t, want, calls[i].Reply)
		}
	}
	check(in.collectAll(t, send()))
	occupy(t, l, n, newInbox())
	calls := send()
	l.resume()
	check(in.collectAll(t, calls))
	require.Contains(t, l.sizes(), 3, "they went out together")
}

// Redis's null must not pass for an error of the server's.
func TestNilReplyIsAnOrdinaryError(t *testing.T) {
	l := newLine(t)
	n, in := l.newNode(t), newInbox()
	check := func(c *node.Call) {
		t.Helper()
		require.EqualError(t, c.Err, "unexpected reply nil")
		require.NotErrorIs(t, c.Err, redis.Nil)
		require.Nil(t, c.Reply)
	}
	null := func() *node.Call {
		return &node.Call{Script: script("return false"), Keys: []string{"a"}, Receiver: in}
	}

	require.True(t, n.Send(null()))
	check(in.next(t))
	occupy(t, l, n, newInbox())
	first, other, last := null(), pushCall(in, "list", "x"), null()
	for _, c := range []*node.Call{first, other, last} {
		require.True(t, n.Send(c))
	}
	l.resume()
	in.collect(t, 3)
	check(first)
	require.NoError(t, other.Err)
	check(last)
}

// What wraps a client may have its own way to send a script.
func TestLoneCallOfAWrappedClientGoesThroughItsMethods(t *testing.T) {
	l := newLine(t)
	l.server.Do(t, "script", "flush")
	w := &wrapper{Client: l.client}
	n, in := node.New(w, false), newInbox()
	require.True(t, n.Send(pushCall(in, "list", "x")))
	require.NoError(t, in.next(t).Err)
	require.NoError(t, n.Close(t.Context(), 0))
	require.Equal(t, []string{"evalsha", "eval"}, w.calls)
}

type wrapper struct {
	*redis.Client
	calls []string
}

func (w *wrapper) EvalSha(ctx context.Context, sha string, keys []string, args ...any) *redis.Cmd {
	w.calls = append(w.calls, "evalsha")
	return w.Client.EvalSha(ctx, sha, keys, args...)
}

func (w *wrapper) Eval(ctx context.Context, source string, keys []string, args ...any) *redis.Cmd {
	w.calls = append(w.calls, "eval")
	return w.Client.Eval(ctx, source, keys, args...)
}
