package protocol

import (
	"context"
	"runtime"
	"time"

	"github.com/rediskit/redlock/internal/lease"
	"github.com/rediskit/redlock/internal/node"
	"github.com/rediskit/redlock/internal/quorum"
)

// verb is something to ask of every node. All that differs between verbs stands in its fields.
type verb struct {
	name   string
	script func(s *Scripts) *node.Script

	// prepare says until when the call is sent or repeated. It returns false if the site is not
	// asked, with the reason in a.err.
	prepare func(a *ask) bool

	args func(a *ask) []any

	// read returns nil for yes, a *Refusal for no, and another error where the reply says neither.
	read func(a *ask, reply any) error

	// rule tells what the votes amount to.
	rule func(r *Round, t *quorum.Tally) quorum.Outcome

	takes   bool // it sets keys: see inTurn
	stands  bool // it stands in the queues where it cannot
	watches bool // it stands in the queues and sets none
	queues  bool // it carries the queues
	fenced  bool // with fencing it carries the counters
	deletes bool // it deletes keys
	heals   bool // a site that has lost our keys gets them again
	hints   bool // no lock depends on the answer
}

// inTurn reports whether the sites of a node are asked one after the other, in the order of the
// keys, so that two who want the same keys never wait for each other. Whoever stands in queues
// needs no such order: there the tickets decide.
func (v *verb) inTurn() bool { return v.takes && !v.stands }

// Round is one question to the nodes, and their votes.
type Round struct {
	claim   *Claim
	verb    *verb
	start   time.Time // taken before the first byte goes out
	timeout time.Duration
	ttl     time.Duration // what is asked for
	number  int           // of the latest shortening when the round was prepared
	each    bool          // each site has a vote, not each node
	modest  bool          // does not ask sites that have not answered the acquire yet
	late    bool          // votes that come after the end can still win or lose it
	final   bool          // the end of the Locker does not cut it short
	// healed counts sites that had lost our keys and get them again; the claim's mutex guards it.
	healed int32
	before int             // see beaten: rounds before this one
	raise  *raise          // what raiseVerb carries; else nil
	then   func(*Round)    // called when the round is settled, without any lock held; may be nil
	ctx    context.Context // see For; may be nil

	// Guarded by the claim's mutex.
	asks    []ask
	asked   time.Time     // when a site was last asked
	took    time.Duration // until a site last answered
	pardon  time.Duration // how far the deadline was moved: see pardonLocked
	tally   quorum.Tally
	outcome quorum.Outcome
	expired time.Duration // after which it was settled without the missing votes; 0: it was not
	beaten  int           // rounds of a contest up to this one in which a competitor had a quorum
	split   time.Time     // when a majority had answered, and not decided it; zero: they have not
	// news is closed when the round is finished or its deadline has moved. Whoever waits makes it.
	news     chan struct{}
	finished bool // settled, and then has run
	contest  bool // several want the resource: see Prevails
}

// roundLocked prepares a question to all nodes.
func (c *Claim) roundLocked(v *verb, ttl time.Duration) *Round {
	now := time.Now()
	r := &Round{
		claim: c, verb: v, start: now, asked: now, timeout: c.nodes.TimeoutFor(ttl), ttl: ttl,
		number: c.number, asks: make([]ask, len(c.sites)), tally: quorum.New(len(c.nodes.nodes)),
	}
	for i := range r.asks {
		r.asks[i].round, r.asks[i].site = r, i
	}
	return r
}

// partLocked prepares a question to some sites, each with a vote of its own.
func (c *Claim) partLocked(v *verb, ttl time.Duration, sites ...int) *Round {
	r := c.roundLocked(v, ttl)
	r.each, r.tally, r.asks = true, quorum.New(len(sites)), r.asks[:len(sites)]
	for i := range r.asks {
		r.asks[i].site = sites[i]
	}
	return r
}

// Send asks the nodes. It must be called without any lock that the round's callback takes: on a
// node that is closed the round is settled at once.
func (r *Round) Send() {
	r.claim.mu.Lock()
	defer r.claim.unlock()
	r.sendLocked()
}

func (r *Round) sendLocked() {
	for i := range r.asks {
		// Only the first site of each node where they are asked one after the other.
		if !r.verb.inTurn() || r.each || i == 0 || r.node(i) != r.node(i-1) {
			r.askLocked(&r.asks[i])
		}
	}
}

// node returns which node an ask goes to.
func (r *Round) node(i int) int { return r.claim.sites[r.asks[i].site].node }

// Wait waits until the round is settled, its time is up or ctx has ended, or the Locker is closed
// (which cuts no release short). Then it is settled. Wait returns what cut it short, if ctx or the
// Locker's end did.
func (r *Round) Wait(ctx context.Context) (cause error) {
	life := r.claim.nodes.Life
	if r.final {
		life = context.Background()
	}
	for {
		news, deadline := r.pending()
		if news == nil {
			return cause
		}
		select {
		case <-news:
		case <-r.claim.nodes.deadlines.After(r.start, deadline.Sub(r.start)):
			late := time.Since(deadline)
			letAnswersIn()
			r.expireAt(deadline, late)
		case <-ctx.Done():
			cause = r.cut(ctx, cause)
			ctx = context.Background()
		case <-life.Done():
			cause = r.cut(life, cause)
			life = context.Background()
		}
	}
}

// letAnswersIn lets the goroutines run that carry answers which have come in time. Where a process
// computes on all of its processors, each may have waited for its turn for as long as this one has.
// Elsewhere this takes no time.
func letAnswersIn() {
	for range 3 {
		// the runtime finds out that a connection can be read; its reader; whom the reader wakes
		runtime.Gosched()
	}
}

// pending returns what will be closed when there is news of the round, or nil if it is finished,
// and when its time is up.
func (r *Round) pending() (news <-chan struct{}, deadline time.Time) {
	r.claim.mu.Lock()
	defer r.claim.mu.Unlock()
	if r.finished {
		return nil, time.Time{}
	}
	if r.news == nil {
		r.news = make(chan struct{})
	}
	if r.outcome != quorum.Open { // only the callback is missing, which has no deadline
		return r.news, time.Now().Add(maxTimeout)
	}
	return r.news, r.deadlineLocked()
}

// wakeLocked has whoever waits look again.
func (r *Round) wakeLocked() {
	if r.news != nil {
		close(r.news)
		r.news = nil
	}
}

// deadlineLocked returns when the round's time is up.
func (r *Round) deadlineLocked() time.Time { return r.limitLocked().Add(r.pardon) }

// limitLocked is the deadline of a process that has processors to spare: the timeout bounds one
// answer, so it runs anew where sites are asked one after the other. A first call on a cold
// connection takes several round trips, so a distant node that has never answered gets the time for
// them, unless the user has set a timeout, or so little would be left of the TTL that it would not
// be worth it.
func (r *Round) limitLocked() time.Time {
	deadline := r.asked.Add(r.timeout)
	if !r.split.IsZero() {
		return earlier(deadline, r.split.Add(r.split.Sub(r.start)+time.Millisecond))
	}
	if r.claim.nodes.Timeout > 0 {
		return deadline
	}
	for i := range r.asks {
		if r.asks[i].voted {
			continue
		}
		cold := min(r.claim.nodes.nodes[r.node(i)].ColdStart(), r.ttl/2)
		if d := r.start.Add(cold); d.After(deadline) {
			deadline = d
		}
	}
	return deadline
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// Deadline returns when the round's time is up, for whoever does not wait for it.
func (r *Round) Deadline() time.Time {
	r.claim.mu.Lock()
	defer r.claim.mu.Unlock()
	return r.deadlineLocked()
}

// Expire settles the round with the votes that there are.
func (r *Round) Expire() { r.expireAt(time.Now(), 0) }

// expireAt expires the round unless its deadline has moved: because of an answer, or since whoever
// waited for it comes late.
func (r *Round) expireAt(deadline time.Time, late time.Duration) {
	r.claim.mu.Lock()
	defer r.claim.unlock()
	r.pardonLocked(late)
	if r.outcome == quorum.Open && !r.deadlineLocked().After(deadline) {
		if r.split.IsZero() { // else a majority has answered: the others were only outrun
			r.expired = time.Since(r.start)
		}
		r.closeLocked()
	}
}

// pardonLocked moves the deadline, once, where whoever waited for it comes late. Others have waited
// as long for a processor then: who writes the request, who reads the answer, who is woken by it.
func (r *Round) pardonLocked(late time.Duration) {
	const usual = 16 // a deadline may be later by this part of it, since rounds share timers
	if r.pardon == 0 && late > r.timeout/usual {
		r.pardon = late + min(3*late, r.timeout)
	}
}

// cut settles the round with the votes that there are because ctx has ended, and returns ctx's
// cause, or the former one if the round was settled before.
func (r *Round) cut(ctx context.Context, former error) error {
	r.claim.mu.Lock()
	defer r.claim.unlock()
	if r.outcome != quorum.Open {
		return former
	}
	r.closeLocked()
	return context.Cause(ctx)
}

// closeLocked settles the round as if the missing votes had failed. They may still come.
func (r *Round) closeLocked() {
	votes := r.tally
	votes.Close()
	r.settleLocked(r.verb.rule(r, &votes))
}

// voteLocked takes a site's answer, once, and settles the round if that decides it.
func (r *Round) voteLocked(a *ask, err error) {
	if a.voted {
		return
	}
	a.voted, a.err = true, err
	if r.took = a.heard; a.heard == 0 { // it was not asked
		r.took = time.Since(r.start)
	}
	switch said, decided := r.verdictLocked(a); {
	case !decided:
		return
	case said == nil:
		r.tally.Cast(quorum.Yes)
	case failed(said):
		r.tally.Cast(quorum.Failed)
	default:
		r.tally.Cast(quorum.No)
	}
	outcome := r.verb.rule(r, &r.tally)
	switch {
	case r.outcome == quorum.Open:
		if r.settleLocked(outcome); outcome == quorum.Open {
			r.splitLocked()
		}
	case r.late && r.outcome == quorum.Unreachable &&
		(outcome == quorum.Won || outcome == quorum.Refused):
		// Each vote was in time for what it proves: a lease counts from the round's start.
		r.settleLocked(outcome)
	case !r.split.IsZero() && r.outcome == quorum.Refused && outcome == quorum.Won && !r.claim.over:
		r.settleLocked(outcome) // the others were not waited for, and would have decided it
	}
}

// verdictLocked returns what a voter says after the answer of one of its sites: nil for yes. It is
// decided once: when the last of its sites has answered, or where the sites are asked one after the
// other, when one has not said yes.
func (r *Round) verdictLocked(a *ask) (said error, decided bool) {
	if r.each || len(r.asks) == len(r.claim.nodes.nodes) {
		return a.err, true
	}
	return r.saidLocked(a.siteLocked().node)
}

// graver returns the one of two answers that speaks for a node: a refusal before an error before a
// yes.
func graver(a, b error) error {
	if a == nil || b != nil && failed(a) && !failed(b) {
		return b
	}
	return a
}

// settleLocked fixes the outcome, unless it is open.
func (r *Round) settleLocked(outcome quorum.Outcome) {
	if r.outcome = outcome; outcome == quorum.Open {
		return
	}
	if r.verb.deletes {
		r.holdBackLocked()
	}
	if r.verb.heals && outcome == quorum.Won {
		for i := range r.asks {
			if a := &r.asks[i]; a.voted {
				r.claim.healLocked(a)
			}
		}
	}
	if r.then == nil {
		r.finishLocked()
		return
	}
	r.claim.posted = append(r.claim.posted, func() {
		// Whoever waits is woken after the callback, which may move the lease that they look at
		// next.
		r.then(r)
		r.claim.mu.Lock()
		defer r.claim.mu.Unlock()
		r.finishLocked()
	})
}

func (r *Round) finishLocked() {
	r.finished = true
	r.wakeLocked()
}

// Op returns what the round asks for.
func (r *Round) Op() string { return r.verb.name }

// Resources returns what the round is about, sorted.
func (r *Round) Resources() []string { return r.claim.keys.Resources }

// Outcome returns what the votes amounted to.
func (r *Round) Outcome() quorum.Outcome {
	r.claim.mu.Lock()
	defer r.claim.mu.Unlock()
	return r.outcome
}

// Lease returns what the round proves if it is won.
func (r *Round) Lease() lease.Lease {
	return lease.Lease{Start: r.start, TTL: r.ttl, Drift: r.claim.nodes.Drift}
}

// Overtaken reports whether a shortening was begun after the round: it may undo what the round
// proves.
func (r *Round) Overtaken() bool {
	r.claim.mu.Lock()
	defer r.claim.mu.Unlock()
	return r.number != r.claim.number
}
