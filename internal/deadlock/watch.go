package deadlock

import (
	"context"
	"crypto/rand"
	"sync/atomic"
	"time"

	"github.com/rediskit/redlock/internal/protocol"
)

// Wait is a call that waits for locks, which may be several at once.
type Wait struct {
	Began time.Time
	After time.Duration // how long it lasts before anything is done
	Nodes *protocol.Nodes
	Keys  protocol.Keys
	Held  []Lock      // by the task that waits
	Enter func() bool // keeps the Locker open until Leave; false: it is closed
	Leave func()

	Label string        // under which the locks would be had
	Place func() string // the name in the nodes' queues; "" while it is in none

	// Found is told of a circle, beginning with this wait, that nobody else is told of. Once at
	// most, and perhaps by another wait's goroutine.
	Found func([]Member)

	// Long is told that the wait is merely long. Once at most.
	Long func([]Blocker)
}

// Lock is a lock that the waiting task holds.
type Lock struct {
	Nodes *protocol.Nodes
	Claim *protocol.Claim
	Since time.Time
	Alive func() bool // may run code of the user's
	Enter func() bool // as Wait's, for the Locker of the lock
	Leave func()
}

// Member is one member of a circle: Owner waits for Resource, which is kept from it by the next
// one.
type Member struct {
	Owner    string // the label
	Resource string
	Waited   time.Duration
	Queued   bool // it does not have what the one before waits for, but is first in its queue
}

// Blocker is who a wait waits for.
type Blocker struct {
	Resource string
	Owner    string        // the label; "" if it is not known
	Queued   bool          // it is only first in the queue
	Held     time.Duration // for how long, at least
	For      string        // the resource that the owner waits for itself, as far as is known
}

func (l *Lock) label() string {
	label, _ := protocol.Label(l.Claim.Token())
	return label
}

func (l *Lock) places() []place {
	keys := l.Claim.Keys()
	places := make([]place, len(keys.Resources))
	for i, r := range keys.Resources {
		places[i] = place{l.Nodes, protocol.KeyName(keys.Prefix(), r)}
	}
	return places
}

// Watch goes along with a wait.
type Watch struct {
	Wait
	age
	ctx    context.Context // ends with the wait
	cancel context.CancelFunc
	timer  *time.Timer
	done   chan struct{} // closed when the goroutine has ended
	first  atomic.Pointer[protocol.Round]

	listed bool // guarded by the registry's mutex

	// The goroutine's.
	notices []*protocol.Notice // one for each lock held
	queued  *protocol.Notice   // where it is first in a queue; nil: not yet
	beat    int
	seen    map[string]time.Time // when an owner was first seen
	suspect circle               // what the search before has found
	told    bool                 // that the wait is long
}

// Start begins to watch a wait. ctx ends when the wait does, or before. The caller calls Stop.
func Start(ctx context.Context, wait Wait) *Watch {
	w := &Watch{Wait: wait, done: make(chan struct{})}
	w.ctx, w.cancel = context.WithCancel(ctx)
	w.timer = time.AfterFunc(time.Until(wait.Began.Add(wait.After)), w.run)
	return w
}

// Refused tells of an attempt that has failed. The first one shows since when, at least, an owner
// has had a lock.
func (w *Watch) Refused(r *protocol.Round) {
	if w.first.Load() == nil {
		w.first.Store(r)
	}
}

// Stop ends the watch: afterwards nothing is found, and what was published is being withdrawn.
func (w *Watch) Stop() {
	w.cancel()
	if !w.timer.Stop() {
		<-w.done
	}
}

// pause is the time from one look to the next.
func (w *Watch) pause() time.Duration {
	return min(max(w.After/2, 50*time.Millisecond), time.Second)
}

// keep is how long the nodes keep what a wait publishes: a beat takes two pauses at most.
func (w *Watch) keep() time.Duration { return 5 * w.pause() }

func (w *Watch) run() {
	defer close(w.done)
	leave, ok := w.enter()
	defer leave()
	if !ok || w.ctx.Err() != nil {
		return
	}
	w.prepare()
	defer w.withdraw()
	if w.keeps() {
		here.add(w)
		defer here.remove(w)
	}
	for w.ctx.Err() == nil && (w.keeps() || !w.told) {
		w.look()
		timer := time.NewTimer(w.pause())
		select {
		case <-timer.C:
		case <-w.ctx.Done():
			timer.Stop()
			return
		}
	}
}

// keeps reports whether others may wait for this task: for a lock that it has, or for one that is
// free and that it cannot take yet, since it waits for several.
func (w *Watch) keeps() bool { return len(w.Held) > 0 || len(w.Keys.Resources) > 1 }

// enter keeps all Lockers open that are needed.
func (w *Watch) enter() (leave func(), ok bool) {
	var entered []func()
	leave = func() {
		for _, leave := range entered {
			leave()
		}
	}
	if !w.Enter() {
		return leave, false
	}
	entered = append(entered, w.Leave)
	for i := range w.Held {
		if !w.Held[i].Enter() {
			return leave, false
		}
		entered = append(entered, w.Held[i].Leave)
	}
	return leave, true
}

// prepare makes what only a wait needs that lasts.
func (w *Watch) prepare() {
	w.age = age{w.Began.UnixMicro(), rand.Text()}
	for i := range w.Held {
		w.notices = append(w.notices, w.Held[i].Claim.Notice(w.wait))
	}
	w.seen = make(map[string]time.Time)
	if first := w.first.Load(); first != nil {
		for _, value := range first.Refusers() {
			w.seen[protocol.OwnerName(value)] = first.Start()
		}
	}
}
