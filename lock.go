package redlock

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rediskit/redlock/internal/node"
	"github.com/rediskit/redlock/internal/quorum"
)

// Node is what a Locker needs of one independent Redis master. Every go-redis v9 client has it: *redis.Client, a Sentinel
// failover client, *redis.ClusterClient, redis.UniversalClient.
type Node interface {
	redis.Scripter
	Pipeline() redis.Pipeliner
	Subscribe(ctx context.Context, channels ...string) *redis.PubSub
}

const (
	// closeWait is how long Close waits for what is under way before it keeps the clients from trying again, and
	// closeGrace how long it waits then: go-redis gives a command up after 5 s by default (v9.22; 3 s before).
	closeWait  = time.Second
	closeGrace = 6 * time.Second
)

// Locker takes locks on a quorum of independent Redis masters. It is safe for concurrent use. Make one with [New], share
// it, and end it with [Locker.Close].
type Locker struct {
	config
	nodes   []*node.Node
	sharded []bool        // which of the nodes are Redis Clusters
	closing chan struct{} // closed when Close begins
	running atomic.Int64  // calls under way; see enter
	last    chan struct{} // gets a value when the last of them returns after that

	deadlines deadlines
	schedule  *schedule // of the handles that somebody watches or that are renewed
	log       logQueue

	mu       sync.Mutex
	closed   time.Time // zero while open
	closeErr error
	drained  chan struct{} // closed when Close is through
}

// New returns a Locker over independent masters. Independent means that they do not replicate each other: an odd number of
// them, three or five, survives the loss of one or two; a single one works as well and survives none. The list and its
// order should be the same for everybody who shares the locks.
//
// The caller keeps ownership of the clients: Close does not close them. New sends nothing. It fails on an empty or nil
// list, a nil client, the same client twice, a *redis.Ring, and on options that are invalid or contradict each other.
func New[N Node](nodes []N, opts ...Option) (*Locker, error) {
	if len(nodes) == 0 {
		return nil, errors.New("redlock: the list of nodes is empty")
	}
	c, err := newConfig(opts)
	if err != nil {
		return nil, err
	}
	l := &Locker{
		config: c, closing: make(chan struct{}), last: make(chan struct{}, 1), drained: make(chan struct{}),
		schedule: newSchedule(), log: logQueue{logger: c.logger},
	}
	for i, n := range nodes {
		if err := checkNode(any(n)); err != nil {
			return nil, fmt.Errorf("redlock: node %d %w", i, err)
		}
		if j := slices.IndexFunc(nodes[:i], func(m N) bool { return same(m, n) }); j >= 0 {
			return nil, fmt.Errorf("redlock: nodes %d and %d are the same client", j, i)
		}
		sharded := isCluster(any(n))
		l.nodes = append(l.nodes, node.New(n, sharded))
		l.sharded = append(l.sharded, sharded)
	}
	return l, nil
}

// checkNode refuses what cannot serve as a node.
func checkNode(n any) error {
	if v := reflect.ValueOf(n); !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
		return errors.New("is nil")
	}
	if _, ok := n.(*redis.Ring); ok {
		return errors.New("is a *redis.Ring, which moves keys to other servers when one fails: locks would be held twice")
	}
	return nil
}

// same reports whether two nodes are one client.
func same(a, b any) bool {
	return reflect.ValueOf(a).Comparable() && reflect.ValueOf(b).Comparable() && a == b
}

// isCluster reports whether keys that go to n in one call must share a slot.
func isCluster(n any) bool {
	_, ok := n.(interface {
		MasterForKey(ctx context.Context, key string) (*redis.Client, error)
	})
	return ok
}

// TryAcquire makes one attempt to lock the resource and never waits for a holder. It takes as long as a quorum of nodes
// takes to answer, and at most the node timeout ([WithNodeTimeout]); if it fails, and takes back what some have granted, at
// most that once more.
//
// It fails with a [QuorumError] that matches [ErrHeld] or [ErrNoQuorum] (where some nodes refuse and others do not answer:
// ErrHeld if a quorum answered), with [ErrClosed], with the cause of ctx if that ends first, or because an argument is
// invalid: an empty resource, or an option out of its range. Nothing is left of a failed attempt on nodes that answer.
func (l *Locker) TryAcquire(ctx context.Context, resource string, opts ...AcquireOption) (*Handle, error) {
	return l.TryAcquireMulti(ctx, []string{resource}, opts...)
}

// Acquire locks the resource, and waits until it can, until ctx ends or until [WithMaxWait] is over. ctx bounds the
// acquisition only: the lock outlives it.
//
// When the wait ends without the lock, the error matches the reason of the last attempt ([ErrHeld] or [ErrNoQuorum]) and,
// if ctx ended, [context.Cause] of ctx. Acquire also fails with [ErrClosed], and on invalid arguments as TryAcquire does.
func (l *Locker) Acquire(ctx context.Context, resource string, opts ...AcquireOption) (*Handle, error) {
	return l.AcquireMulti(ctx, []string{resource}, opts...)
}

// Do runs fn while it holds the resource: it waits for the lock as [Locker.Acquire] does, renews it meanwhile unless
// [WithAutoRenewal] says no, and releases it afterwards, also when fn panics. The context that fn gets ends with ctx, and
// with the lock: then its cause is [ErrLost] or [ErrClosed], and fn should return at once, since somebody else may have the
// resource.
//
// Do returns fn's error, joined with ErrLost (or ErrClosed) if the lock had ended before fn returned.
func (l *Locker) Do(ctx context.Context, resource string, fn func(ctx context.Context) error, opts ...AcquireOption) (err error) {
	p, err := l.plan([]string{resource}, opts)
	if err != nil {
		return err
	}
	if p.renewal == renewalUnset {
		p.renewal = renewalOn
	}
	h, err := l.acquire(ctx, p)
	if err != nil {
		return err
	}
	defer func() {
		if ended := h.Err(); ended != nil && !errors.Is(err, ended) {
			err = errors.Join(err, stateError("do", h.Resources(), ended))
		}
		switch rel := h.Release(ctx); {
		case errors.Is(rel, ErrLost) && !errors.Is(err, ErrLost):
			err = errors.Join(err, rel)
		case errors.Is(rel, ErrNoQuorum): // the work is done, and the keys expire
			l.log.add(slog.LevelWarn, "release failed", "resources", h.Resources(), "error", rel)
		}
	}()
	return fn(h.Context(ctx))
}

// Adopt continues a lock that another process has handed over by its token ([Handle.Token]). It looks on the nodes how long
// a quorum will keep the lock at least, and returns a Handle that is valid for that long, less the drift; Extend and
// renewal (with the TTL of opts) take it from there. The former handle still takes itself for the owner: whoever hands a
// lock over should drop it without a Release. A node of a minority that the former owner's request reaches only after the
// lock was released keeps the key until it expires.
//
// Adopt fails with [ErrLost] when the resources are free, under another token or never expire, with [ErrNoQuorum] when too
// few nodes answer, and otherwise as TryAcquire does.
func (l *Locker) Adopt(ctx context.Context, resources []string, token string, opts ...AcquireOption) (*Handle, error) {
	if token == "" {
		return nil, errors.New("redlock: the token is empty")
	}
	p, err := l.plan(resources, opts)
	if err != nil {
		return nil, err
	}
	if err := l.enter(ctx, "adopt", p.resources); err != nil {
		return nil, err
	}
	defer l.leave()
	return l.adopt(ctx, p, token)
}

// Close ends the Locker: waiting calls return [ErrClosed], renewal stops, handles end with ErrClosed, and all calls from
// then on return it. Locks that are held are not released: their keys expire. Close returns when nothing of the Locker
// runs in the background any more, which is at once when the nodes answer; with nodes that hang it takes up to 7 s, and the
// error says so if their clients have not given up by then. The clients are the caller's to close, after the Locker.
func (l *Locker) Close() error {
	l.mu.Lock()
	if !l.closed.IsZero() {
		l.mu.Unlock()
		<-l.drained
		return l.closeErr
	}
	l.closed = time.Now()
	close(l.closing)
	l.mu.Unlock()

	for _, h := range l.schedule.close() {
		h.Err() // a look at the clock tells it that the Locker is closed
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
	errs := make([]error, len(l.nodes))
	var wg sync.WaitGroup
	for i, n := range l.nodes {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := n.Close(ctx, closeGrace); err != nil {
				errs[i] = fmt.Errorf("redlock: close: node %d: %w", i, err)
			}
		}()
	}
	wg.Wait()
	l.log.wait(ctx)
	return errors.Join(errs...)
}

// closedAt returns when the Locker was closed, if it was.
func (l *Locker) closedAt() (time.Time, bool) {
	select {
	case <-l.closing:
	default:
		return time.Time{}, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed, true
}

// enter begins an operation that sends something, or says why it must not: the Locker is closed, or ctx has ended. Close waits
// for what has entered and not left, so that nothing is sent to a node that it takes for idle.
func (l *Locker) enter(ctx context.Context, op string, resources []string) error {
	l.running.Add(1)
	if cause := l.over(ctx); cause != nil {
		l.leave()
		return stateError(op, resources, cause)
	}
	return nil
}

func (l *Locker) leave() {
	if l.running.Add(-1) > 0 {
		return
	}
	select {
	case <-l.closing:
		select {
		case l.last <- struct{}{}:
		default:
		}
	default:
	}
}

// plan is an acquisition whose arguments have been checked.
type plan struct {
	callConfig
	resources []string   // sorted, without duplicates
	keys      []string   // of the resources, in their order
	slots     [][]string // the keys in runs that share a slot of Redis Cluster; nil if one call can carry all
}

// plan checks the arguments of an acquisition.
func (l *Locker) plan(resources []string, opts []AcquireOption) (*plan, error) {
	call, err := l.forCall(opts)
	if err != nil {
		return nil, err
	}
	p := &plan{callConfig: call}
	if p.resources, err = normalise(resources); err != nil {
		return nil, err
	}
	p.keys = make([]string, len(p.resources))
	for i, r := range p.resources {
		p.keys[i] = l.key(r)
	}
	if len(p.keys) > 1 && slices.Contains(l.sharded, true) {
		p.slots = slotRuns(p.keys)
	}
	return p, nil
}

// key returns the key that locks the resource.
func (l *Locker) key(resource string) string {
	if l.prefix == "" {
		return resource
	}
	return l.prefix + ":" + resource
}

// resource returns the resource that the key locks.
func (l *Locker) resource(key string) string {
	if l.prefix == "" {
		return key
	}
	return strings.TrimPrefix(key, l.prefix+":")
}

// attempt tries once. Where others are in the way, hint is when enough of their locks will have expired.
func (l *Locker) attempt(ctx context.Context, p *plan) (h *Handle, hint time.Duration, err error) {
	if err := l.enter(ctx, "acquire", p.resources); err != nil {
		return nil, 0, err
	}
	defer l.leave()
	h = l.newHandle(p, l.newToken())
	c := &h.claim
	over := false
	defer func() {
		if !over { // a hook of the user's client has panicked
			c.mu.Lock()
			c.abandon()
			c.unlock()
		}
	}()

	c.mu.Lock()
	r := c.newRound(acquireVerb, len(l.nodes), l.timeoutFor(p.ttl))
	r.begin(node.Call{Args: c.args[:], SendBy: time.Now().Add(r.timeout)}, true)
	r.run()

	cause := r.wait(ctx, l.closing)
	over = true
	if err = h.begin(r, p.ttl); err == nil {
		return h, 0, nil
	}
	hint = r.freeIn()

	c.mu.Lock()
	cleaned := c.abandon()
	c.unlock()
	if cause != nil {
		return nil, 0, &interrupted{cause, err}
	}
	if cleaned != nil {
		// What was granted is gone before anybody tries again. A straggler is followed in the background.
		cleaned.wait(ctx, l.closing)
	}
	return nil, hint, err
}

// interrupted is the error of an attempt that was cut short: cause ended it, and reason is what could be told by then.
type interrupted struct{ cause, reason error }

func (e *interrupted) Error() string { return fmt.Sprintf("%v (%v)", e.reason, e.cause) }

func (e *interrupted) Unwrap() []error {
	if e.cause == ErrClosed {
		return []error{e.cause}
	}
	return []error{e.cause, e.reason}
}

// freeIn returns when, by what the nodes say, enough foreign locks will have expired for an attempt to succeed. What a node
// has granted, in time or after the decision, is free again by then; nodes that have not answered may be free as soon as the
// first of the others. Redis rounds down, so a millisecond is added.
func (r *round) freeIn() time.Duration {
	r.claim.mu.Lock()
	defer r.claim.unlock()
	missing := r.tally.Need()
	var left []time.Duration
	for i := range r.requests {
		q := &r.requests[i]
		var refused *refusal
		switch {
		case q.yes():
			missing--
		case errors.As(q.err, &refused) && refused.left >= 0: // else it never expires
			left = append(left, refused.left)
		}
	}
	if missing < 1 || len(left) == 0 {
		return math.MaxInt64
	}
	slices.Sort(left)
	for i := range r.requests {
		if !r.requests[i].voted {
			left = slices.Insert(left, 0, left[0])
		}
	}
	if len(left) < missing {
		return math.MaxInt64
	}
	return left[missing-1] + time.Millisecond
}

// adopt looks for a token on the nodes and makes it a Handle.
func (l *Locker) adopt(ctx context.Context, p *plan, token string) (*Handle, error) {
	h := l.newHandle(p, token)
	c := &h.claim

	c.mu.Lock()
	for i := range c.lanes {
		c.lanes[i].dirty = true
	}
	r := c.newRound(adoptVerb, len(l.nodes), l.timeoutFor(p.ttl))
	r.begin(node.Call{SendBy: time.Now().Add(r.timeout)}, true)
	r.run()

	cause := r.wait(ctx, l.closing)
	err := h.begin(r, r.keptFor())
	switch {
	case err == nil:
		return h, nil
	case cause != nil:
		return nil, &interrupted{cause, err}
	case errors.Is(err, ErrClosed):
		return nil, err
	case r.outcome != quorum.Unreachable: // refused, or kept for less than can be trusted
		return nil, r.shortfall().lost()
	}
	return nil, err
}

// keptFor returns for how long a quorum of nodes will keep the token at least.
func (r *round) keptFor() time.Duration {
	r.claim.mu.Lock()
	defer r.claim.unlock()
	var left []time.Duration
	for i := range r.requests {
		if q := &r.requests[i]; q.yes() {
			left = append(left, q.left)
		}
	}
	slices.Sort(left)
	if missing := r.tally.Need(); len(left) >= missing {
		return min(left[len(left)-missing], maxTTL)
	}
	return 0
}

const tokenBytes = 16 // 128 random bits

// newToken returns a value that nobody else has: random, with the owner's label behind it.
func (l *Locker) newToken() string {
	var random [tokenBytes]byte
	rand.Read(random[:]) // never fails
	token := make([]byte, 0, 64)
	token = base64.RawURLEncoding.AppendEncode(token, random[:])
	token = append(append(token, ':'), l.owner...)
	return string(token)
}

// ownerLabel returns the label in a token. Values that are no tokens of this library belong to unknown owners.
func ownerLabel(token string) string {
	n := base64.RawURLEncoding.EncodedLen(tokenBytes)
	if len(token) <= n || token[n] != ':' {
		return "unknown"
	}
	if _, err := base64.RawURLEncoding.DecodeString(token[:n]); err != nil {
		return "unknown"
	}
	return token[n+1:]
}

// milliseconds returns d as Redis counts it, rounded up: a key may outlive its lease, never the other way round.
func milliseconds(d time.Duration) int64 {
	return int64((d + time.Millisecond - 1) / time.Millisecond)
}
