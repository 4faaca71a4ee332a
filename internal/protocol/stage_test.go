//go:build go1.25

package protocol

import (
	"context"
	"encoding"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/node"
)

// stage has nodes that answer what the test tells them, when it tells them, in virtual time.
type stage struct {
	*testing.T
	*Nodes
	actors []*actor
	close  context.CancelCauseFunc // the Locker's end

	mu   sync.Mutex
	told []Trouble
}

// play runs a test on n nodes, of which the first ones are Redis Clusters.
func play(t *testing.T, n, clusters int, test func(s *stage)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &stage{T: t}
		life, end := context.WithCancelCause(context.Background())
		s.close = end
		var clients []node.Client
		var clustered []bool
		for i := range n {
			a := newActor(t)
			s.actors = append(s.actors, a)
			clients, clustered = append(clients, a.client), append(clustered, i < clusters)
		}
		s.Nodes = NewNodes(Config{Scripts: stageScripts, Drift: 0.01, Life: life, Tell: s.hear},
			clients, clustered)
		t.Cleanup(func() {
			for _, a := range s.actors {
				close(a.gone)
			}
			ended, cancel := context.WithCancel(context.Background())
			cancel()
			require.NoError(t, errors.Join(s.Close(ended, time.Minute)...))
		})
		test(s)
	})
}

func (s *stage) hear(trouble Trouble) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told = append(s.told, trouble)
}

// heard returns what was told since it was last asked for.
func (s *stage) heard() []Trouble {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	told := s.told
	s.told = nil
	return told
}

const (
	stageTTL      = time.Minute
	stagePatience = time.Second // also what the nodes have by default for that TTL
)

// token is a claim's; its label is "us".
const token = "MMMMMMMMMMMMMMMMMMMMMM:us"

// claim returns a claim on resources; on a cluster "a" and "b" have different slots.
func (s *stage) claim(resources ...string) *Claim {
	c := &Claim{}
	c.Init(s.Nodes, keysOf(s.Nodes, "lock", resources...), token, stageTTL)
	return c
}

// send sends a round that takes.
func (s *stage) acquire(c *Claim) *Round {
	r := c.Acquire(stageTTL)
	r.Send()
	return r
}

// held returns a claim that every node has granted.
func (s *stage) held(resources ...string) *Claim {
	s.Helper()
	c := s.claim(resources...)
	r := s.acquire(c)
	for range c.sites {
		for _, a := range s.actors {
			for a.busy() {
				a.next("acquire").yes()
			}
		}
	}
	c.Prove(r.Lease())
	return c
}

// loneWorkers is how many calls a single node is asked at the same time.
const loneWorkers = 4

// quiet checks that no node has been asked anything that it has not answered.
func (s *stage) quiet() {
	s.Helper()
	for i, a := range s.actors {
		require.False(s, a.busy(), "node %d was asked more", i)
	}
}

// stageScripts have their names in place of text and digest.
var stageScripts = func() *Scripts {
	files := fstest.MapFS{}
	var sums strings.Builder
	for _, name := range []string{"acquire_alone", "release_alone", "queue", "fence", "errors"} {
		files["scripts/"+name+".lua"] = &fstest.MapFile{}
	}
	for _, name := range ScriptNames {
		files["scripts/"+name+".lua"] = &fstest.MapFile{Data: []byte(name)}
		sums.WriteString(name + "  " + name + "\n")
	}
	files["scripts/SHA1SUMS"] = &fstest.MapFile{Data: []byte(sums.String())}
	return LoadScripts(files, 0)
}()

// actor is a node whose answers the test gives.
type actor struct {
	t      *testing.T
	client *redis.Client
	gone   chan struct{}
	far    time.Duration // to dial it

	mu    sync.Mutex
	asked []*request
}

// request is a script call that waits for its answer.
type request struct {
	script string
	keys   []string // the lock keys
	args   []any    // without those about queues
	queue  []any    // those
	answer chan saying
}

// queueless is how many arguments the scripts take that know of queues, and need not.
var queueless = map[string]int{"acquire": 2, "release": 2, "inspect": 0}

// parted takes a request apart into what is about the lock and what is about its queues.
func (q *request) parted() *request {
	plain, ok := queueless[q.script]
	if ok && q.script == "release" && len(q.args) == 1 {
		q.args = []any{q.args[0], 0, len(q.keys) / 2}
	}
	if q.script == "acquire" && len(q.args) == 2 {
		q.args = append(q.args[:2:2], len(q.keys)/2)
	}
	if !ok || len(q.args) <= plain {
		return q
	}
	locks := q.args[plain].(int)
	counted := q.script == "acquire" && len(q.args) == 4 ||
		q.script == "inspect" && len(q.args) == 1
	switch {
	case len(q.keys) == 3*locks: // the counters are about the lock
		q.keys = slices.Concat(q.keys[:locks], q.keys[2*locks:])
	case len(q.keys) == 2*locks && !counted:
		q.keys, q.args, q.queue = q.keys[:locks], q.args[:plain], q.args[plain:]
	case len(q.keys) == locks && !counted:
		q.args = q.args[:plain]
	}
	return q
}

type saying struct {
	reply any
	err   error
}

func newActor(t *testing.T) *actor {
	a := &actor{t: t, gone: make(chan struct{})}
	a.client = redis.NewClient(&redis.Options{
		Addr: "node", PoolSize: 100,
		Dialer: func(context.Context, string, string) (net.Conn, error) {
			// for whoever wonders why the node is silent
			<-time.After(a.far)
			conn, other := net.Pipe()
			return conn, other.Close()
		},
	})
	a.client.AddHook(a)
	t.Cleanup(func() { require.NoError(t, a.client.Close()) })
	return a
}

func (a *actor) DialHook(next redis.DialHook) redis.DialHook { return next }

func (a *actor) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		a.serve(ctx, cmd)
		return cmd.Err()
	}
}

func (a *actor) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		a.serve(ctx, cmds...)
		return nil
	}
}

// serve waits for the answers to commands that come together.
func (a *actor) serve(ctx context.Context, cmds ...redis.Cmder) {
	var asked []*request
	for _, cmd := range cmds {
		args := cmd.Args()
		count := args[2].(int)
		q := &request{script: args[1].(string), args: args[3+count:], answer: make(chan saying, 1)}
		for _, key := range args[3 : 3+count] {
			q.keys = append(q.keys, key.(string))
		}
		for _, arg := range q.args { // it is written to the connection
			if late, ok := arg.(encoding.BinaryMarshaler); ok {
				_, err := late.MarshalBinary()
				assert.NoError(a.t, err)
			}
		}
		asked = append(asked, q.parted())
	}
	a.mu.Lock()
	a.asked = append(a.asked, asked...)
	a.mu.Unlock()
	for i, q := range asked {
		cmd := cmds[i].(*redis.Cmd)
		select {
		case said := <-q.answer:
			cmd.SetVal(said.reply)
			cmd.SetErr(said.err)
		case <-ctx.Done():
			cmd.SetErr(ctx.Err())
		case <-a.gone:
			cmd.SetErr(io.EOF)
		}
	}
}

// busy reports whether the node has been asked something.
func (a *actor) busy() bool {
	synctest.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.asked) > 0
}

// next returns what the node was asked first among what nobody has looked at.
func (a *actor) next(script string) *request {
	a.t.Helper()
	require.True(a.t, a.busy(), "nothing was asked, in place of %s", script)
	a.mu.Lock()
	defer a.mu.Unlock()
	q := a.asked[0]
	a.asked = a.asked[1:]
	require.Equal(a.t, script, q.script)
	return q
}

func (q *request) say(reply any, err error) {
	q.answer <- saying{reply, err}
	synctest.Wait()
}

func (q *request) yes()           { q.say(int64(1), nil) }
func (q *request) gone()          { q.say([]any{int64(1)}, nil) }
func (q *request) fail(err error) { q.say(nil, err) }
func (q *request) refuse(owner string, left time.Duration) {
	q.say([]any{int64(1), owner, left.Milliseconds()}, nil)
}

// serverError is an error that comes from a server.
type serverError string

func (e serverError) Error() string { return string(e) }
func (serverError) RedisError()     {}

// pass lets time pass.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// watched returns the outcomes that a round calls back with.
type watched struct {
	mu    sync.Mutex
	calls []string
}

func (w *watched) then(r *Round) {
	outcome := [...]string{"open", "won", "refused", "unreachable"}[r.Outcome()]
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, outcome)
}

func (w *watched) seen() []string {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.calls
}
