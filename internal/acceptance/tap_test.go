package acceptance_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/redistest"
)

// Most of what goes wrong goes wrong when two things happen in an order that nobody has thought of.
// A tap and gates put them into that order.

var (
	errPartition = errors.New("the network is cut")
	errGaveUp    = errors.New("the user went home")
)

// hook is a go-redis hook that stands around whatever a client sends: one command, or several that
// go out together.
type hook func(send func() error, sent ...redis.Cmder) error

func (h hook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h hook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		return h(func() error { return next(ctx, cmd) }, cmd)
	}
}

func (h hook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		return h(func() error { return next(ctx, cmds) }, cmds...)
	}
}

// tap is a hook that shows the test the scripts that a client runs, all that goes out together as
// one string, and interferes.
type tap struct {
	mu   sync.Mutex
	out  func(sent string) error // called before it is sent; an error keeps it back
	back func(sent string) error // called when it was answered; an error takes the answer's place
}

// onSend sets what happens to requests from now on. nil: nothing.
func (p *tap) onSend(f func(sent string) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out = f
}

// onReply sets what happens to replies from now on. nil: nothing.
func (p *tap) onReply(f func(sent string) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.back = f
}

// pass is a hook.
func (p *tap) pass(send func() error, sent ...redis.Cmder) error {
	if !strings.HasPrefix(sent[0].Name(), "eval") {
		// some versions of go-redis show hooks how a client greets a server
		return send()
	}
	p.mu.Lock()
	out, back := p.out, p.back
	p.mu.Unlock()
	args := make([]any, len(sent))
	for i, cmd := range sent {
		args[i] = cmd.Args()
	}
	text := fmt.Sprint(args...)
	if out != nil {
		if err := out(text); err != nil {
			return lose(err, sent)
		}
	}
	err := send()
	if back != nil {
		if lost := back(text); lost != nil {
			return lose(lost, sent)
		}
	}
	return err
}

// lose gives all that goes out together the error with which it ends.
func lose(err error, sent []redis.Cmder) error {
	for _, cmd := range sent {
		cmd.SetErr(err)
	}
	return err
}

// tapOf puts a tap on a client.
func tapOf(client *redis.Client) *tap {
	p := &tap{}
	client.AddHook(hook(p.pass))
	return p
}

// tapped is masters with a tap on each client.
func tapped(t *testing.T, n int) ([]*redistest.Server, []*redis.Client, []*tap) {
	t.Helper()
	servers, clients := masters(t, n)
	taps := make([]*tap, n)
	for i, c := range clients {
		taps[i] = tapOf(c)
	}
	return servers, clients, taps
}

// isExtension reports whether a request is for extend.lua.
func isExtension(sent string) bool {
	return strings.Contains(sent, " keep]") || isCut(sent)
}

// isCut reports whether a request shortens a lease.
func isCut(sent string) bool { return strings.Contains(sent, " cut]") }

// gate stops who comes to it until it is opened.
type gate struct {
	reached chan struct{} // closed when the first one has come
	opened  chan struct{}
	once    [2]sync.Once
}

func (g *gate) pass() {
	g.once[0].Do(func() { close(g.reached) })
	<-g.opened
}

func (g *gate) open() { g.once[1].Do(func() { close(g.opened) }) }

// newGate returns a gate that is opened at the end of the test at the latest.
func newGate(t *testing.T) *gate {
	g := &gate{reached: make(chan struct{}), opened: make(chan struct{})}
	t.Cleanup(g.open)
	return g
}

// observed is a context that tells when somebody begins to wait for its end: his request is on its
// way by then.
type observed struct {
	context.Context
	once   sync.Once
	waited chan struct{}
}

func (o *observed) Done() <-chan struct{} {
	o.once.Do(func() { close(o.waited) })
	return o.Context.Done()
}

func observe(ctx context.Context) *observed {
	return &observed{Context: ctx, waited: make(chan struct{})}
}

// record is a log handler that passes each record on to a function.
type record func(slog.Record)

func (f record) Enabled(context.Context, slog.Level) bool      { return true }
func (f record) Handle(_ context.Context, r slog.Record) error { f(r); return nil }
func (f record) WithAttrs([]slog.Attr) slog.Handler            { return f }
func (f record) WithGroup(string) slog.Handler                 { return f }

func loggingTo(f func(slog.Record)) redlock.Option {
	return redlock.WithLogger(slog.New(record(f)))
}

// onceLogged returns an option, and a channel that is closed when a message with that text is
// logged.
func onceLogged(substr string) (redlock.Option, <-chan struct{}) {
	var once sync.Once
	seen := make(chan struct{})
	return loggingTo(func(r slog.Record) {
		if strings.Contains(r.Message, substr) {
			once.Do(func() { close(seen) })
		}
	}), seen
}

// failuresOf returns a channel that is closed when the client has given up n commands, each with
// all its repetitions.
func failuresOf(client *redis.Client, n int64) <-chan struct{} {
	var failures atomic.Int64
	reached := make(chan struct{})
	client.AddHook(hook(func(send func() error, _ ...redis.Cmder) error {
		err := send()
		if err != nil && failures.Add(1) == n {
			close(reached)
		}
		return err
	}))
	return reached
}

// requests counts the requests for a resource that go out through a tap.
func requests(p *tap, resource string) <-chan struct{} {
	return requestsUntil(context.Background(), p, resource)
}

// requestsUntil is requests for those that go out before ctx ends.
func requestsUntil(ctx context.Context, p *tap, resource string) <-chan struct{} {
	seen := make(chan struct{}, 10000)
	p.onSend(func(sent string) error {
		if ctx.Err() != nil {
			return nil
		}
		if strings.Contains(sent, "lock:"+resource+" ") ||
			strings.Contains(sent, "lock:"+resource+"]") {
			seen <- struct{}{}
		}
		return nil
	})
	return seen
}
