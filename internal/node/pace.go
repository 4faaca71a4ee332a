package node

import (
	"time"

	"github.com/redis/go-redis/v9"
)

// Two workers are best where the network is fast: the longer calls gather, the fewer round trips
// they need. Over a long distance a call would wait for a good part of another round trip before
// its own begins. So a distant node gets more workers while calls wait, and the more it has, the
// longer it takes until the next one starts.
const (
	baseWorkers = 2                    // one batch on its way while the next one gathers
	loneWorkers = 4                    // where there is no other node: see Node.Alone
	mostWorkers = 16                   // connections of the client's pool that we take at most
	mostStuck   = 8                    // those that may hang on top of the base
	nearby      = 2 * time.Millisecond // round trips up to here are not worth more workers
)

// pace decides when more workers than the base are due.
type pace struct {
	most  int           // workers, with respect to the client's pool
	stuck int           // workers that may be stuck, with respect to the client's pool
	trip  time.Duration // the round trip, smoothed
	began time.Time     // when the latest round trip did
	alive time.Time     // when the node last answered, or began to be asked
}

// newPace leaves a quarter of the client's connections to others.
func newPace(client any) pace {
	size := poolSize(client)
	return pace{
		most:  min(max(size*3/4, baseWorkers), mostWorkers),
		stuck: min(max(size/2, 1), mostStuck),
	}
}

// poolSize returns how many connections to one server a client has.
func poolSize(client any) int {
	if o := optionsOf(client); o != nil {
		return o.PoolSize
	}
	if c, ok := client.(interface{ Options() *redis.ClusterOptions }); ok && c.Options() != nil {
		return c.Options().PoolSize
	}
	return 10 // go-redis's default, for a single CPU
}

// startLocked notes the begin of a round trip.
func (p *pace) startLocked(now time.Time, workers int) {
	p.began = now
	if workers == 1 {
		p.alive = now
	}
}

// answeredLocked notes the end of a round trip that brought an answer.
func (p *pace) answeredLocked(started, now time.Time) {
	p.alive = now
	p.trip += (now.Sub(started) - p.trip) / 8
}

// distantLocked reports whether the node is so far away that more workers are worth it.
func (p *pace) distantLocked() bool { return p.trip >= nearby }

// dueLocked returns when another worker on top of the base may start, if one ever may. A node that
// has ceased to answer gets none.
func (p *pace) dueLocked(now time.Time, workers int) (time.Time, bool) {
	if workers >= p.most || !p.distantLocked() || now.Sub(p.alive) > 2*p.trip {
		return time.Time{}, false
	}
	// So that most of them fill a round trip.
	space := p.trip * time.Duration(workers) / time.Duration(p.most*p.most)
	return p.began.Add(space), true
}
