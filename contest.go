package redlock

import (
	"context"
	"time"

	"github.com/rediskit/redlock/internal/jitter"
	"github.com/rediskit/redlock/internal/protocol"
	"github.com/rediskit/redlock/internal/quorum"
)

// contend asks the nodes for the lock, again and again for at most the node timeout where
// competitors have split them and ours is the right to go on. It returns the round that tells what
// came of it, and what cut it short.
func (l *Locker) contend(ctx context.Context, h *Handle,
	ttl time.Duration) (r *protocol.Round, cause error) {
	r = h.claim.Acquire(ttl)
	began, patience := r.Start(), l.nodes.TimeoutFor(ttl)
	r.For(ctx)
	r.Send()
	cause = r.Wait(ctx)
	for round := 0; cause == nil; round++ {
		if cause = l.mayYetWin(ctx, r, began.Add(patience/16)); cause != nil || !prevails(r) {
			break
		}
		// The others see at about the same time that they must give way; what they send then needs
		// half a round trip. Whoever takes longer is asked less and less often.
		trip := max(r.Took(), time.Millisecond)
		pause := jitter.Around(ctx, min(trip/2<<min(max(0, round-7), 16), max(trip/2, patience/8)))
		pause = min(pause, r.FreeIn()) // what stands in the way may be about to expire
		left := patience - time.Since(began) - pause
		if left < trip {
			break
		}
		// What the last nodes have answered by then may show that it is us who must give way.
		if cause = l.sleep(ctx, pause); cause != nil || !goesOn(r, began, patience) {
			break
		}
		again := r.Again(left)
		again.Send()
		cause = again.Wait(ctx)
		if cause == nil && again.Outcome() == quorum.Unreachable {
			break // a split that could not be settled in time is contention
		}
		r = again
	}
	return r, cause
}

// mayYetWin waits, until the given time at most, for the answers that could give us a quorum after
// all, if it is us who are to give way without them. That is a few round trips: whoever is to go on
// asks often for longer.
func (l *Locker) mayYetWin(ctx context.Context, r *protocol.Round, until time.Time) (cause error) {
	trip := max(r.Took(), time.Millisecond)
	for range 8 {
		if cause != nil || prevails(r) || !r.MayYetWin() || !time.Now().Before(until) {
			break
		}
		cause = l.sleep(ctx, trip/2)
	}
	return cause
}

// prevails reports whether ours is the right to go on, by the answers that there are.
func prevails(r *protocol.Round) bool {
	prevails, _ := r.Prevails()
	return prevails
}

// goesOn is prevails when the last nodes have had time to answer. Where silent nodes may be a
// competitor's, and so make it a holder, a contest lasts for a quarter of its time.
func goesOn(r *protocol.Round, began time.Time, patience time.Duration) bool {
	prevails, doubtful := r.Prevails()
	return prevails && (!doubtful || time.Since(began) < patience/4)
}
