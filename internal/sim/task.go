package sim

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/history"
	"github.com/rediskit/redlock/internal/jitter"
)

// task is one user of a client: a goroutine that does one thing after the other.
type task struct {
	*client
	random *rand.Rand
	ctx    context.Context
}

func newTask(c *client, i int) *task {
	return &task{
		client: c, random: c.world.random("task", c.name, i),
		ctx: jitter.From(c.ctx, c.world.random("jitter", c.name, i)),
	}
}

func (t *task) run() {
	defer t.users.Done()
	t.sleep(t.upTo(t.world.Latency)) // not all at once
	for t.going() {
		switch n := t.random.IntN(16); {
		case len(t.world.resources) > 1 && t.chance(t.world.Nests):
			t.nest()
		case n == 0:
			t.inspect()
		case n == 1:
			t.waitForUnlock()
		case n == 2, n == 3:
			t.do()
		default:
			if h, token := t.take(); h != nil {
				t.use(h, token)
			}
		}
		t.sleep(t.upTo(t.world.TTL / 4))
	}
}

// going reports whether there is more to be done.
func (t *task) going() bool { return t.ctx.Err() == nil && time.Now().Before(t.world.healed) }

// sleep passes time as a process does, which while it is paused does nothing at all.
func (t *task) sleep(d time.Duration) {
	_ = sleep(t.ctx, d)
	t.thaw()
}

func (t *task) thaw() { _ = sleep(t.ctx, time.Until(t.paused.get())) }

func (t *task) upTo(d time.Duration) time.Duration {
	return time.Duration(t.random.Int64N(int64(d) + 1))
}

func (t *task) chance(percent int) bool { return t.random.IntN(100) < percent }

func (t *task) ttl() time.Duration { return t.world.TTL/2 + t.upTo(t.world.TTL*3/2) }

// choose returns resources in any order.
func (t *task) choose() []string {
	n := 1
	if t.chance(25) {
		n += t.random.IntN(len(t.world.resources))
	}
	var chosen []string
	for _, i := range t.random.Perm(len(t.world.resources))[:n] {
		chosen = append(chosen, t.world.resources[i])
	}
	return chosen
}

// intent is an acquisition before it is made.
type intent struct {
	resources []string
	ttl       time.Duration
	renewed   bool
	waits     bool
	opts      []redlock.AcquireOption
}

func (t *task) intend() intent {
	i := intent{resources: t.choose(), ttl: t.ttl(), waits: t.chance(60), renewed: t.chance(30)}
	if t.chance(40) {
		i.ttl = t.world.LongTTL
	}
	i.opts = []redlock.AcquireOption{redlock.WithTTL(i.ttl), redlock.WithAutoRenewal(i.renewed)}
	if i.renewed && t.chance(30) {
		i.opts = append(i.opts, redlock.WithMaxHold(i.ttl+t.upTo(2*i.ttl)))
	}
	if i.waits && t.chance(20) {
		i.opts = append(i.opts, redlock.WithMaxWait(1+t.upTo(2*t.world.TTL)))
	}
	return i
}

// settling is how many prompt calls an attempt may take: competitors who have split the nodes ask
// again, with pauses about as long as a call, until all but one have seen that they must give way.
const settling = 6

// patience returns a context for a wait: often one that ends before the lock can be had.
func (t *task) patience() (context.Context, context.CancelFunc) {
	switch {
	case t.chance(20): // in the middle of an attempt
		return context.WithTimeout(t.ctx, t.upTo(4*t.world.Latency))
	case t.chance(30):
		return context.WithTimeout(t.ctx, t.upTo(2*t.world.TTL))
	}
	return context.WithCancel(t.ctx)
}

// take acquires something, or not.
func (t *task) take() (*redlock.Handle, string) {
	i := t.intend()
	ctx, cancel := t.patience()
	defer cancel()
	began := t.world.now()
	had, _ := t.world.agreed(lockKeys(i.resources))
	if !t.world.grantsNothing(lockKeys(i.resources)) {
		// a node that is not well may grant something, and be waited for when that is taken back
		had = ""
	}
	var h *redlock.Handle
	var err error
	if i.waits {
		h, err = t.acquire(ctx, i.resources, "", i.opts...)
	} else {
		h, err = t.locker.TryAcquireMulti(ctx, i.resources, i.opts...)
		timeouts := time.Duration(2) // to ask and to take back
		if t.world.Fencing {
			timeouts++ // to agree on the fence
		}
		t.onTime("TryAcquire", began, timeouts*nodeTimeout(i.ttl), settling, t.plain(h, err, had))
	}
	if t.dead.Load() {
		return nil, ""
	}
	if err != nil {
		t.refused(i, began, err)
		t.thaw()
		return nil, ""
	}
	token := h.Token()
	t.granted(h, token, began)
	t.thaw()
	return h, token
}

// granted records a lock, at the moment at which the call returned it.
func (t *task) granted(h *redlock.Handle, token string, began time.Duration) {
	w := t.world
	w.setFate(token, inUse)
	w.setFence(token, h.Fence())
	w.totals.grants.Add(1)
	if (h.Fence() > 0) != w.Fencing {
		w.breach("fencing", "%s got %v with the fence %d", t.name, h.Resources(), h.Fence())
	}
	if w.Fencing && w.raised(token) {
		w.totals.raised.Add(1)
	}
	if len(h.Resources()) > 1 {
		w.totals.multi.Add(1)
	}
	if missing, ok := w.proved(h, token); !ok {
		w.breach("all or nothing", "%s got %v as %s, but %s", t.name, h.Resources(), w.short(token),
			missing)
	}
	t.log(history.Event{
		Kind: history.Acquired, Began: began, At: w.now(), Resources: h.Resources(), Token: token,
		Until: h.ValidUntil().Sub(w.start),
		Fence: h.Fence(),
	})
}

// refused records a failure, and checks that its reason is one that may be.
func (t *task) refused(i intent, began time.Duration, err error) {
	w := t.world
	held, outage := errors.Is(err, redlock.ErrHeld), errors.Is(err, redlock.ErrNoQuorum)
	ended := errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, redlock.ErrClosed) || i.waits
	switch {
	case held:
		w.totals.refusals.Add(1)
	case outage:
		w.totals.outages.Add(1)
	}
	switch {
	case errors.Is(err, redlock.ErrClosed) && !t.closed.Load(), !held && !outage && !ended:
		w.breach("errors", "%s: %v", t.name, err)
	case outage && w.steady() && !ended:
		w.breach("slow minority", "%s: a majority is well, but: %v", t.name, err)
	}
	t.log(history.Event{Kind: history.Refused, Began: began, At: w.now(), Resources: i.resources,
		Note: err.Error()})
}

// plain reports whether an attempt needed no more than the nodes that are always well: they all
// granted it, at once, or all refused it for the holder that they had before. Where they disagree,
// the others have the decision, and it takes as long as they take: for competitors who have split
// them too, whom an attempt may wait for.
func (t *task) plain(h *redlock.Handle, err error, had string) bool {
	var q *redlock.QuorumError
	if h == nil {
		return errors.As(err, &q) && q.Got == 0 && had != ""
	}
	return t.everywhere(h, h.Token()) && !t.world.contested(h.Token())
}

func lockKeys(resources []string) (keys []string) {
	for _, r := range resources {
		keys = append(keys, "lock:"+r)
	}
	return keys
}

// everywhere reports whether all nodes that are always well have the lock.
func (t *task) everywhere(h *redlock.Handle, token string) bool {
	has, agreed := t.world.agreed(lockKeys(h.Resources()))
	return agreed && has == token
}

// onTime checks that a call kept to the time that it has, and a plain one, where a majority is
// well, to much less than that. Called when it has returned.
func (t *task) onTime(call string, began, most time.Duration, calls int, plain bool) {
	took := t.world.now() - began
	switch {
	case t.dead.Load() || t.closed.Load():
	case took > most:
		t.world.breach("promptness", "%s: %s took %v, more than %v", t.name, call, took, most)
	case plain && t.world.steady() && took > time.Duration(calls)*t.world.prompt():
		t.world.breach("slow minority",
			"%s: %s took %v, more than %d times %v, where a majority is well",
			t.name, call, took, calls, t.world.prompt())
	}
}

// use does something with a lock, to its end or until it is released.
func (t *task) use(h *redlock.Handle, token string) {
	again := true
	if t.chance(t.keeps()) {
		t.keep(h, token)
		again = false
	}
	for again && t.alive(h, token) && t.going() {
		long := time.Until(h.ValidUntil()) > 5*t.world.TTL
		switch n := t.random.IntN(10); {
		case n < 3:
			t.work(h, token, t.upTo(t.world.TTL/2))
			again = t.chance(50)
		case n < 5:
			t.extend(h, token)
		case n < 6:
			t.quarrel(h, token)
		case n < 7:
			t.watch(h, token)
			again = !long
		case !long:
			t.toTheEnd(h, token)
			again = false
		default:
			again = false
		}
	}
	t.leave(h, token)
}

// alive looks whether the handle is, and holds that against what the nodes have.
func (t *task) alive(h *redlock.Handle, token string) bool {
	if t.dead.Load() {
		return false
	}
	w := t.world
	at, until := w.now(), h.ValidUntil()
	missing, proved := w.proved(h, token)
	if err := h.Err(); err != nil {
		t.over(h, token, err, until)
		return false
	}
	t.log(history.Event{Kind: history.Held, At: at, Resources: h.Resources(), Token: token,
		Until: h.ValidUntil().Sub(w.start)})
	if !proved {
		w.breach("proof", "%s takes %s for held, but %s", t.name, w.short(token), missing)
	}
	return true
}

// over records the end of a handle that has not been released.
func (t *task) over(h *redlock.Handle, token string, err error, until time.Time) {
	w := t.world
	w.totals.losses.Add(1)
	t.log(history.Event{Kind: history.Ended, At: w.now(), Resources: h.Resources(), Token: token,
		Note: err.Error()})
	switch {
	case errors.Is(err, redlock.ErrClosed) && t.closed.Load():
	case !errors.Is(err, redlock.ErrLost):
		w.breach("errors", "%s: %s ended with %v", t.name, w.short(token), err)
	case time.Now().Before(until) && time.Now().Before(h.ValidUntil()) && !w.Amnesia:
		w.breach("false loss", "%s: %s ended %v before its time, which nobody has taken away",
			t.name, w.short(token), time.Until(until))
	}
}

// work reads the register of a resource, and sets it a while later if the lock is still held.
func (t *task) work(h *redlock.Handle, token string, d time.Duration) {
	r := t.register(h.Resources())
	old, read := r.read()
	t.sleep(d)
	if t.alive(h, token) {
		r.swap(t.client, old, read)
	}
}

func (t *task) register(resources []string) *register {
	for _, r := range t.world.registers {
		if r.resource == resources[0] {
			return r
		}
	}
	return nil
}

// toTheEnd keeps the lock for exactly as long as it is valid, and uses it at the last moment. A
// lock that is renewed has no end of its own, and is kept for a few TTLs.
func (t *task) toTheEnd(h *redlock.Handle, token string) {
	give := time.Now().Add(3 * t.world.TTL)
	r := t.register(h.Resources())
	old, read := r.read()
	for t.alive(h, token) && time.Now().Before(give) && time.Now().Before(t.world.healed) {
		left := time.Until(h.ValidUntil()) - time.Nanosecond
		step := t.upTo(t.world.TTL / 2)
		if step < left {
			t.sleep(step)
			continue
		}
		t.sleep(left)
		if t.alive(h, token) {
			r.swap(t.client, old, read)
			old, read = r.read()
		}
		t.sleep(time.Nanosecond)
		if !time.Now().Before(h.ValidUntil()) {
			t.alive(h, token) // which it must not be
			return
		}
	}
}

// watch waits for Done, or not that long.
func (t *task) watch(h *redlock.Handle, token string) {
	timer := time.NewTimer(t.upTo(2 * t.world.TTL))
	defer timer.Stop()
	select {
	case <-h.Done():
		at, until := t.world.now(), h.ValidUntil().Sub(t.world.start)
		if at > until && !t.dead.Load() && h.Err() == redlock.ErrLost {
			t.world.breach("early loss", "%s: Done of %s closed at %v, but it was valid until "+
				"%v only", t.name, t.world.short(token), at, until)
		}
	case <-timer.C:
	case <-t.ctx.Done():
	}
	t.thaw()
}

// extend asks for a longer or for a shorter lease.
func (t *task) extend(h *redlock.Handle, token string) {
	ttl := t.ttl() / time.Duration(1+t.random.IntN(4))
	if t.chance(20) {
		ttl = t.world.LongTTL
	}
	t.extendTo(h, token, max(ttl, 10*time.Millisecond))
}

func (t *task) extendTo(h *redlock.Handle, token string, ttl time.Duration) {
	w := t.world
	began, before, plain := w.now(), h.ValidUntil(), t.everywhere(h, token)
	err := h.Extend(t.ctx, ttl)
	t.onTime("Extend", began, 2*nodeTimeout(ttl), 1, plain)
	if t.dead.Load() {
		return
	}
	until := h.ValidUntil()
	switch {
	case err == nil:
		w.totals.extended.Add(1)
		if until.Before(before) {
			w.totals.shortened.Add(1)
		}
		t.log(history.Event{Kind: history.Extended, Began: began, At: w.now(),
			Resources: h.Resources(), Token: token, Until: until.Sub(w.start)})
	case errors.Is(err, redlock.ErrLost), errors.Is(err, redlock.ErrClosed) && t.closed.Load(),
		errors.Is(err, context.Canceled):
	case !errors.Is(err, redlock.ErrNoQuorum):
		w.breach("errors", "%s: Extend: %v", t.name, err)
	case w.steady() && plain:
		w.breach("slow minority", "%s: Extend when a majority is well: %v", t.name, err)
	}
	t.thaw()
}

// keeps is how often a lock is kept, in percent: it takes long, and a shortening that comes late
// costs a lock one node, or two.
func (t *task) keeps() int {
	switch {
	case t.world.Profile != Siege:
		return 3 / t.world.quorum()
	case t.world.Nodes <= 2:
		return 70
	default:
		return 5
	}
}

// keep shortens a lock and extends it again as soon as that can be had, and then holds it for as
// long as the shortening may be under way.
func (t *task) keep(h *redlock.Handle, token string) {
	short, most := t.ttl()/2, 5*time.Second
	if t.world.Profile == Siege {
		short, most = 6*time.Second, 16*time.Second // longer than go-redis waits for an answer
	}
	t.extendTo(h, token, t.world.LongTTL)
	t.extendTo(h, token, short)
	over := time.Now().Add(most)
	for t.alive(h, token) && t.going() && time.Now().Before(over) {
		if time.Until(h.ValidUntil()) < short {
			t.extendTo(h, token, t.world.LongTTL)
		}
		t.sleep(t.upTo(600 * time.Millisecond))
	}
}

// quarrel has two users extend the same lock at the same time, each as it likes.
func (t *task) quarrel(h *redlock.Handle, token string) {
	other := &task{client: t.client, ctx: t.ctx,
		random: rand.New(rand.NewPCG(t.random.Uint64(), t.random.Uint64()))}
	done := make(chan struct{})
	go func() {
		defer close(done)
		other.extend(h, token)
	}()
	t.sleep(t.upTo(t.world.Latency))
	t.extend(h, token)
	<-done
}

// leave releases the lock, or forgets it if it has ended by itself.
func (t *task) leave(h *redlock.Handle, token string) {
	w := t.world
	if t.dead.Load() {
		return
	}
	held := h.Err() == nil
	if !held && t.chance(50) {
		w.setFate(token, forgotten)
		return
	}
	w.setFate(token, released)
	began, plain := w.now(), held && t.everywhere(h, token)
	if held {
		t.log(history.Event{Kind: history.Ended, At: began, Resources: h.Resources(), Token: token,
			Note: "released"})
	}
	err := h.Release(t.ctx)
	t.onTime("Release", began, nodeTimeout(w.longest()), 1, plain)
	if t.dead.Load() {
		return
	}
	t.released(h, token, held, err)
	t.thaw()
}

// released checks what a release said.
func (t *task) released(h *redlock.Handle, token string, held bool, err error) {
	w := t.world
	closed := errors.Is(err, redlock.ErrClosed) && t.closed.Load()
	switch {
	case h.Err() == nil:
		w.breach("finality", "%s: %s is alive after its release", t.name, w.short(token))
	case closed:
	case err == nil && !held:
		w.breach("errors", "%s: the release of %s, which had ended, says that all is well", t.name,
			w.short(token))
	case err == nil:
		for _, r := range h.Resources() {
			if n := w.support("lock:"+r, token); n >= w.quorum() {
				w.breach("release", "%s: %s was released, but is on %d nodes", t.name,
					w.short(token), n)
			}
		}
	case !errors.Is(err, redlock.ErrLost) && !errors.Is(err, redlock.ErrNoQuorum):
		w.breach("errors", "%s: Release: %v", t.name, err)
	case held && w.Profile == Calm:
		w.breach("release", "%s: the release of %s, when all is well, says: %v", t.name,
			w.short(token), err)
	}
}

// do has the library hold a lock around a piece of work, which may panic.
func (t *task) do() {
	w := t.world
	ctx, cancel := t.patience()
	defer cancel()
	resource := t.choose()[:1]
	r := t.register(resource)
	began := w.now()
	panics := t.chance(20)
	defer func() {
		if p := recover(); p != nil && p != errUsersPanic {
			panic(p)
		}
		t.thaw()
	}()
	err := t.locker.Do(ctx, resource[0], func(ctx context.Context) error {
		w.totals.grants.Add(1)
		t.thaw()
		old, read := r.read()
		t.sleep(t.upTo(2 * w.TTL))
		if ctx.Err() == nil && !t.dead.Load() {
			r.swap(t.client, old, read)
		}
		if panics {
			panic(errUsersPanic)
		}
		return nil
	}, redlock.WithTTL(t.ttl()))
	if err != nil && !errors.Is(err, redlock.ErrLost) && !t.dead.Load() {
		t.refused(intent{resources: resource, waits: true}, began, err)
	}
}

// inspect looks whether a resource is locked, and by whom.
func (t *task) inspect() {
	w, resource := t.world, t.choose()[0]
	key := []string{"lock:" + resource}
	had, plain := w.agreed(key)
	began := w.now()
	status, err := t.locker.Inspect(t.ctx, resource)
	has, still := w.agreed(key)
	// and with a token, which never comes back, so all the while
	plain = plain && still && had == has
	t.onTime("Inspect", began, nodeTimeout(w.TTL), 1, plain)
	switch {
	case err == nil && !status.Locked:
		t.saw(resource, "Inspect", began)
	case err == nil && (status.TTL > w.longest() ||
		status.Owner != "" && w.byName(status.Owner) == nil):
		w.breach("status", "%s was told that %s is locked by %q for %v", t.name, resource,
			status.Owner, status.TTL)
	case err == nil && plain && had != "" && status.Owner != owner(had):
		w.breach("status", "%s was told that %s is locked by %q, but it is by %s", t.name, resource,
			status.Owner, w.short(had))
	}
	t.thaw()
}

func (t *task) waitForUnlock() {
	resource := t.choose()[0]
	ctx, cancel := context.WithTimeout(t.ctx, t.upTo(2*t.world.TTL))
	defer cancel()
	began := t.world.now()
	if t.locker.WaitForUnlock(ctx, resource) == nil {
		t.saw(resource, "WaitForUnlock", began)
	}
	t.thaw()
}

// saw records that a resource was said to be free.
func (t *task) saw(resource, call string, began time.Duration) {
	w := t.world
	if t.dead.Load() {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.looks = append(w.looks, look{t.name, resource, began, w.now(), call})
}
