package node

import (
	"time"

	"github.com/redis/go-redis/v9"
)

// Two workers are best where the network is fast: the longer calls gather, the fewer round trips they need. Over a long
// way that would make a call wait for a good part of somebody else's round trip before its own begins. So a distant node
// gets more workers while calls wait: the sooner after each other, the fewer there are.
const (
	baseWorkers = 2                    // one batch on its way while the next one gathers
	mostWorkers = 16                   // connections of the client's pool that we take at most
	nearby      = 2 * time.Millisecond // round trips up to here are not worth more workers
)

// pace decides when more than the base of workers is due.
type pace struct {
	most   int           // workers, with respect to the client's pool
	trip   time.Duration // the round trip, smoothed
	began  time.Time     // when the latest round trip did
	alive  time.Time     // when the node last answered, or began to be asked
	waking *time.Timer   // until another worker is due; nil when none is planned
}

// newPace leaves a quarter of the client's connections to others.
func newPace(client Client) pace {
	most := mostWorkers / 2
	if c, ok := client.(interface{ Options() *redis.Options }); ok {
		most = min(max(c.Options().PoolSize*3/4, baseWorkers), mostWorkers)
	}
	return pace{most: most}
}

// start notes the begin of a round trip. Called with the mutex held.
func (p *pace) start(now time.Time, workers int) {
	p.began = now
	if workers == 1 {
		p.alive = now
	}
}

// answered notes the end of a round trip that brought an answer. Called with the mutex held.
func (p *pace) answered(started, now time.Time) {
	p.alive = now
	p.trip += (now.Sub(started) - p.trip) / 8
}

// distant reports whether the node is so far away that more workers are worth it. Called with the mutex held.
func (p *pace) distant() bool { return p.trip >= nearby }

// due returns when another worker may start, if one ever may: not for a node that has ceased to answer. Called with the
// mutex held.
func (p *pace) due(now time.Time, workers int) (time.Duration, bool) {
	if workers < baseWorkers {
		return 0, true
	}
	if workers >= p.most || !p.distant() || now.Sub(p.alive) > 2*p.trip {
		return 0, false
	}
	space := p.trip * time.Duration(workers) / time.Duration(p.most*p.most) // so that most of them fill a round trip
	return max(0, p.began.Add(space).Sub(now)), true
}

// callWorker sees to it that somebody sends what is queued. Called with the mutex held.
func (n *Node) callWorker() {
	if n.queue.length == 0 {
		return
	}
	wait, ok := n.pace.due(time.Now(), n.workers)
	switch {
	case !ok:
	case wait == 0:
		n.workers++
		go n.work(n.pace.distant())
	case n.pace.waking == nil:
		n.helpers++
		n.pace.waking = time.AfterFunc(wait, n.wake)
	}
}

// wake is what the pace's timer does.
func (n *Node) wake() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.helpers--
	n.pace.waking = nil
	n.callWorker()
	n.checkIdle()
}
