package redlock

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rediskit/redlock/internal/node"
	"github.com/rediskit/redlock/internal/protocol"
	"github.com/rediskit/redlock/internal/queue"
	"github.com/rediskit/redlock/internal/timers"
)

//go:embed scripts
var files embed.FS

// lockers counts the Lockers that were made.
var lockers atomic.Uint64

// scripts are the same for all Lockers without a restart guard.
var scripts = protocol.LoadScripts(files, 0)

// Node is what a Locker needs of one independent Redis master. Every go-redis v9 client has it:
// *redis.Client, a Sentinel failover client, *redis.ClusterClient, redis.UniversalClient.
type Node interface {
	redis.Scripter
	Pipeline() redis.Pipeliner
	Subscribe(ctx context.Context, channels ...string) *redis.PubSub
}

const (
	// closeWait is how long Close waits for what is under way before it keeps the clients from
	// trying again, and closeGrace how long it waits then: go-redis gives a command up after 5 s by
	// default (v9.22; 3 s before).
	closeWait  = time.Second
	closeGrace = 6 * time.Second

	// logWait is how long Close waits then for a log handler, which may hang.
	logWait = time.Second
)

// Locker takes locks on a quorum of independent Redis masters. It is safe for concurrent use. Make
// one with [New], share it, and end it with [Locker.Close].
type Locker struct {
	config
	nodes    *protocol.Nodes
	line     *queue.Line
	number   uint64           // of this process's Lockers, for the observer
	clients  []node.Client    // those of the nodes
	schedule *timers.Schedule // of the handles that somebody watches or that are renewed
	log      logQueue

	life    context.Context // ends with ErrClosed when Close begins
	end     context.CancelCauseFunc
	running atomic.Int64  // calls under way; see enter
	locks   atomic.Uint64 // locks that were told to the observer
	last    chan struct{} // gets a value when the last of them returns after that

	mu       sync.Mutex
	closed   time.Time // zero while open
	closeErr error
	drained  chan struct{} // closed when Close is through
}

// New returns a Locker over independent masters. Independent means that they do not replicate each
// other: an odd number of them, three or five, survives the loss of one or two; a single one works
// as well and survives none. Every process that shares locks should pass the same list.
//
// The caller keeps ownership of the clients: Close does not close them. New sends nothing. It fails
// on an empty or nil list, a nil client, a *redis.Ring, the same client or the same address twice
// (two clients, or two databases, of one server are one node), and on options that are invalid or
// contradict each other.
func New[N Node](nodes []N, opts ...Option) (*Locker, error) {
	if len(nodes) == 0 {
		return nil, errors.New("redlock: the list of nodes is empty")
	}
	c, err := newConfig(opts)
	if err != nil {
		return nil, err
	}
	clients, clustered := make([]node.Client, len(nodes)), make([]bool, len(nodes))
	for i, n := range nodes {
		clients[i], clustered[i] = n, isCluster(n)
	}
	if err := checkClients(clients, c.guard > 0); err != nil {
		return nil, err
	}
	l := &Locker{
		config: c, number: lockers.Add(1), clients: clients, schedule: timers.NewSchedule(),
		log:  logQueue{logger: c.logger},
		last: make(chan struct{}, 1), drained: make(chan struct{}),
	}
	l.life, l.end = context.WithCancelCause(context.Background())
	l.nodes = protocol.NewNodes(protocol.Config{
		Scripts: c.scripts(), Timeout: c.nodeTimeout, Drift: c.drift, Fencing: c.fencing,
		Life: l.life, Tell: l.trouble, Heard: l.heardIfObserved(), Hints: c.deadlocks > 0,
	}, clients, clustered)
	l.line = queue.New(l.nodes, "redlock:"+protocol.NewToken("")[:22], l.noMessages)
	return l, nil
}

// TryAcquire makes one attempt to lock the resource and never waits for a holder, nor overtakes
// those who wait in [Locker.Acquire]. It takes as long as a quorum of nodes takes to answer, and at
// most the node timeout ([WithNodeTimeout]). Where it fails, and takes back what some nodes have
// granted, it takes at most that once more.
//
// Of any number that try a free resource at the same moment one gets it: competitors who have split
// the nodes among them settle it in a few round trips, for which the node timeout must leave room.
//
// It fails with a [QuorumError] that matches [ErrHeld] or [ErrNoQuorum] (where some nodes refuse
// and others do not answer: ErrHeld if a quorum answered), with [ErrClosed], with ctx's error and
// cause if that ends first, or because an argument is invalid: an empty resource, or an option out
// of its range. Nothing is left of a failed attempt on nodes that answer.
func (l *Locker) TryAcquire(ctx context.Context, resource string,
	opts ...AcquireOption) (*Handle, error) {
	return l.TryAcquireMulti(ctx, []string{resource}, opts...)
}

// Acquire locks the resource, and waits until it can, until ctx ends or until [WithMaxWait] is
// over. ctx bounds the acquisition only: the lock outlives it.
//
// Those who wait are served in the order in which they came, over all processes, as long as the
// nodes are healthy: a release calls the next one. Where the nodes' messages cannot be had, waiting
// polls ([WithRetryInterval]).
//
// When the wait ends without the lock, the error matches the reason of the last attempt ([ErrHeld]
// or [ErrNoQuorum]) and, if ctx ended, [context.Cause] of ctx. Acquire also fails with [ErrClosed];
// with [ErrMisconfigured] at once; with [ErrNoQuorum] after [WithMaxOutage]; with [ErrDeadlock]
// under [WithDeadlockDetection]; and on invalid arguments as TryAcquire does.
func (l *Locker) Acquire(ctx context.Context, resource string,
	opts ...AcquireOption) (*Handle, error) {
	return l.AcquireMulti(ctx, []string{resource}, opts...)
}

// Do runs fn while it holds the resource: it waits for the lock as [Locker.Acquire] does, renews it
// meanwhile unless [WithAutoRenewal] says no, and releases it afterwards, also when fn panics. The
// context that fn gets ends with ctx, and with the lock: then its cause is [ErrLost] or
// [ErrClosed], and fn should return at once, since somebody else may have the resource.
//
// Do returns fn's error, joined with ErrLost (or ErrClosed) if the lock had ended before fn
// returned.
func (l *Locker) Do(ctx context.Context, resource string, fn func(ctx context.Context) error,
	opts ...AcquireOption) (err error) {
	p, err := l.plan([]string{resource}, opts)
	if err != nil {
		return err
	}
	h, err := l.get(ctx, p.renewedUnlessTold())
	if err != nil {
		return err
	}
	return l.run(ctx, h, fn)
}

// TryDo is Do with one attempt in place of a wait: where somebody else has the resource, it returns
// an error that matches [ErrHeld] at once, and fn does not run.
func (l *Locker) TryDo(ctx context.Context, resource string, fn func(ctx context.Context) error,
	opts ...AcquireOption) error {
	p, err := l.plan([]string{resource}, opts)
	if err != nil {
		return err
	}
	h, err := l.try(ctx, p.renewedUnlessTold())
	if err != nil {
		return err
	}
	return l.run(ctx, h, fn)
}

// run runs fn under the lock and releases it.
func (l *Locker) run(ctx context.Context, h *Handle,
	fn func(ctx context.Context) error) (err error) {
	defer func() {
		ended := h.Err()
		if ended != nil && !errors.Is(err, ended) {
			err = errors.Join(err, stateError("do", h.Resources(), ended))
		}
		if rel := l.letGo(ctx, h); errors.Is(rel, ErrLost) && !errors.Is(err, ErrLost) {
			err = errors.Join(err, rel)
		}
	}()
	return fn(h.Context(ctx))
}

// letGo releases a lock under which all is done. That it could not be deleted is told to the log:
// the keys expire.
func (l *Locker) letGo(ctx context.Context, h *Handle) error {
	err := h.Release(ctx)
	if errors.Is(err, ErrNoQuorum) {
		l.log.warn("release failed", "resources", h.Resources(), "error", err)
	}
	return err
}

// Close ends the Locker: waiting calls return [ErrClosed], renewal stops, handles end with
// ErrClosed, and all calls from then on return it. Locks that are held are not released: their keys
// expire. Close goes on cleaning up after earlier calls for as long as it waits, and returns when
// nothing of the Locker runs in the background any more. That is at once when the nodes answer;
// with nodes that hang it takes up to 7 s, and the error says so if their clients have not given up
// by then. An observer or a log handler that hangs can cost a second each. The clients are the
// caller's to close, after the Locker.
func (l *Locker) Close() error {
	l.mu.Lock()
	if !l.closed.IsZero() {
		l.mu.Unlock()
		<-l.drained
		return l.closeErr
	}
	l.closed = time.Now()
	l.mu.Unlock()
	l.end(ErrClosed)

	for _, a := range l.schedule.Close() {
		a.Ring() // a look at the clock tells the handle that the Locker is closed
	}
	l.closeErr = l.drain()
	close(l.drained)
	return l.closeErr
}

// drain waits for the calls that are under way and closes the nodes, all at the same time.
func (l *Locker) drain() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeWait)
	defer cancel()
	for l.running.Load() > 0 && ctx.Err() == nil {
		select {
		case <-l.last:
		case <-ctx.Done():
		}
	}
	l.line.Close()
	errs := l.nodes.Close(ctx, closeGrace)
	for i, err := range errs {
		if err != nil {
			errs[i] = fmt.Errorf("redlock: close: %w", err)
		}
	}
	l.log.wait(logWait)
	return errors.Join(errs...)
}

// closedAt returns when the Locker was closed, if it was.
func (l *Locker) closedAt() (time.Time, bool) {
	if l.life.Err() == nil {
		return time.Time{}, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed, true
}

// enter begins an operation that sends something, or says why it must not: the Locker is closed, or
// ctx has ended. Close waits for what has entered and not left, so that nothing is sent to a node
// that it takes for idle.
func (l *Locker) enter(ctx context.Context, op string, resources []string) error {
	if ctx == nil {
		panic("redlock: nil context") // before anything is counted
	}
	l.running.Add(1)
	if cause := l.over(ctx); cause != nil {
		l.leave()
		if cause == ErrClosed {
			return stateError(op, resources, cause)
		}
		return cutAttempt(ctx, cause, stateError(op, resources, cause))
	}
	return nil
}

func (l *Locker) leave() {
	if l.running.Add(-1) > 0 || l.life.Err() == nil {
		return
	}
	select {
	case l.last <- struct{}{}:
	default:
	}
}
