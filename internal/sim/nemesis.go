package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/rediskit/redlock/internal/history"
)

// nemesis breaks things, one after the other, until all is healed. Each fault ends by itself by
// then.
type nemesis struct {
	world  *World
	random *rand.Rand
	back   []time.Duration // how far each node's clock has been set back
}

func newNemesis(w *World) *nemesis {
	return &nemesis{w, w.random("nemesis"), make([]time.Duration, w.Nodes)}
}

// fault breaks something for the given time. It returns what, or "" if it was not possible.
type fault func(m *nemesis, d time.Duration) string

// faultKinds are in a fixed order: seeds choose among them.
var faultKinds = []string{
	"hang", "crash", "restart empty", "wipe", "error replies", "slow answers", "clock jump", "cut",
	"one-way cut", "loss of requests",
	"loss of replies", "torn connections", "late requests", "client killed", "client vanished",
	"client paused", "client closed",
}

var faults = map[string]fault{
	"hang":             (*nemesis).hang,
	"crash":            (*nemesis).crash,
	"restart empty":    (*nemesis).restartEmpty,
	"wipe":             (*nemesis).wipe,
	"error replies":    (*nemesis).errorReplies,
	"slow answers":     (*nemesis).slowAnswers,
	"clock jump":       (*nemesis).clockJump,
	"cut":              (*nemesis).cut,
	"one-way cut":      (*nemesis).oneWayCut,
	"loss of requests": (*nemesis).loseRequests,
	"loss of replies":  (*nemesis).loseReplies,
	"torn connections": (*nemesis).tear,
	"late requests":    (*nemesis).delayRequests,
	"client killed":    func(m *nemesis, d time.Duration) string { return m.killClient(false) },
	"client vanished":  func(m *nemesis, d time.Duration) string { return m.killClient(true) },
	"client paused":    (*nemesis).pauseClient,
	"client closed":    func(m *nemesis, d time.Duration) string { return m.closeClient() },

	"amnesia": (*nemesis).amnesia, // in worlds of their own: no lock survives it without the guard
}

// ofClients are the faults that clients have of themselves.
const ofClients = 4

// siege are the faults that last.
var siege = []string{"hang", "hang", "cut", "one-way cut", "late requests"}

// lateness is for sieges of one node or two, with which nothing would be possible while one of them
// hangs.
var lateness = []string{"late requests", "late requests", "late requests", "hang"}

// run breaks things until the end.
func (m *nemesis) run() {
	w := m.world
	kinds := faultKinds
	if w.Amnesia {
		kinds = slices.Concat(kinds, slices.Repeat([]string{"amnesia"}, len(kinds)))
	}
	switch w.Profile {
	case Minority:
		kinds = kinds[:len(kinds)-ofClients]
	case Siege:
		kinds = siege
		if w.Nodes <= 2 {
			kinds = lateness
		}
	}
	for w.FaultGap > 0 {
		gap := w.FaultGap/2 + time.Duration(m.random.Int64N(int64(w.FaultGap)))
		if time.Until(w.healed) <= gap {
			break
		}
		time.Sleep(gap)
		kind := kinds[m.random.IntN(len(kinds))]
		d := m.duration()
		if note := faults[kind](m, d); note != "" {
			w.totals.fault(kind)
			w.log.Add(history.Event{Kind: history.Fault, At: w.now(), Client: "nemesis",
				Note: fmt.Sprintf("%s: %s", kind, note)})
		}
	}
	time.Sleep(time.Until(w.healed))
}

// duration is mostly short, and sometimes longer than what clients wait for.
func (m *nemesis) duration() time.Duration {
	if m.world.Brisk {
		return min(time.Second+time.Duration(m.random.Int64N(int64(3*time.Second))),
			time.Until(m.world.healed))
	}
	if m.world.Profile == Siege {
		return min(10*time.Second+time.Duration(m.random.Int64N(int64(10*time.Second))),
			time.Until(m.world.healed))
	}
	most := 4 * m.world.TTL
	if m.random.IntN(4) == 0 {
		most = 5 * time.Second
	}
	return min(time.Duration(m.random.Int64N(int64(most))), time.Until(m.world.healed))
}

// node is one that may break.
func (m *nemesis) node() *node {
	n := m.world.Nodes
	if m.world.Profile == Minority || m.world.Profile == Siege {
		n = max(1, (n-1)/2)
	}
	return m.world.nodes[m.random.IntN(n)]
}

func (m *nemesis) client() *client {
	m.world.mu.Lock()
	defer m.world.mu.Unlock()
	return m.world.clients[m.random.IntN(len(m.world.clients))]
}

// later does something after a while.
func (m *nemesis) later(d time.Duration, f func()) { time.AfterFunc(d, f) }

func (m *nemesis) hang(d time.Duration) string {
	n := m.node()
	n.hung.extend(time.Now().Add(d))
	return fmt.Sprintf("%s for %v", n.name, d)
}

func (m *nemesis) crash(d time.Duration) string {
	n := m.node()
	if _, ok := n.crash(false, 0); !ok {
		return ""
	}
	m.later(d, func() { n.restart(false) })
	return fmt.Sprintf("%s for %v", n.name, d)
}

// restartEmpty keeps a node away until every lock that it has, or may have confirmed, is over.
func (m *nemesis) restartEmpty(time.Duration) string {
	n := m.node()
	d, ok := n.crash(true, time.Until(m.world.healed))
	if !ok {
		return ""
	}
	m.later(d, func() { n.restart(true) })
	return fmt.Sprintf("%s after %v", n.name, d)
}

// amnesia restarts a node, which forgets whatever locks count on it.
func (m *nemesis) amnesia(d time.Duration) string {
	n := m.node()
	if _, ok := n.crash(false, 0); !ok {
		return ""
	}
	m.later(d/8, func() { n.restart(true) })
	return fmt.Sprintf("%s for %v", n.name, d/8)
}

// wipe takes a node's keys away where no lock needs them, and may leave it slow for a while.
func (m *nemesis) wipe(d time.Duration) string {
	n := m.node()
	if !m.world.spare(n, true, n.wipe) {
		return ""
	}
	if m.random.IntN(2) == 0 {
		return n.name
	}
	return fmt.Sprintf("%s; %s", n.name, m.slow(n, d))
}

func (m *nemesis) errorReplies(d time.Duration) string {
	n := m.node()
	reply := [...]string{
		"LOADING Redis is loading the dataset in memory", "MISCONF Redis is configured to save " +
			"RDB snapshots", "READONLY You can't write against a read only replica.",
		"OOM command not allowed when used memory > 'maxmemory'.", "ERR something is wrong",
	}[m.random.IntN(5)]
	every := 1 + m.random.IntN(3)
	n.fail(reply, every)
	m.later(d, func() { n.fail("", 1) })
	return fmt.Sprintf("%s for %v, one of %d: %s", n.name, d, every, reply)
}

func (m *nemesis) slowAnswers(d time.Duration) string { return m.slow(m.node(), d) }

func (m *nemesis) slow(n *node, d time.Duration) string {
	by := time.Duration(m.random.Int64N(int64(2*nodeTimeout(m.world.TTL)) + 1))
	n.thought.Store(int64(by))
	m.later(d, func() { n.thought.Store(0) })
	return fmt.Sprintf("%s by %v for %v", n.name, by, d)
}

// clockJump sets a clock back, which only lets keys live longer, or forward where that takes away
// nothing that is needed.
func (m *nemesis) clockJump(time.Duration) string {
	n := m.node()
	by := time.Duration(m.random.Int64N(int64(4*m.world.TTL))) - 2*m.world.TTL
	by = by.Truncate(time.Millisecond) // what a node counts: a key has no part of one left
	if by < 0 {
		if m.back[n.index] -= by; m.back[n.index] > m.world.mostBack() {
			return ""
		}
		n.jump(by)
	} else if n.voteless(m.world.Guard) || !m.world.spare(n, false, func() { n.jumpLocked(by) }) {
		return "" // uptime follows the clock: the guard counts on it after a restart
	}
	return fmt.Sprintf("%s by %v", n.name, by)
}

// roads are all roads to one node, or those of one client, or the one between them.
func (m *nemesis) roads() (to, back []*road, where string) {
	n, c := m.node(), m.client()
	switch {
	case m.random.IntN(2) == 0:
		for _, c := range m.world.everyone() {
			to, back = append(to, c.roads[n.index]), append(back, c.back[n.index])
		}
		return to, back, n.name
	case m.random.IntN(3) == 0 && m.world.Profile != Minority:
		return c.roads, c.back, c.name
	default:
		return c.roads[n.index : n.index+1], c.back[n.index : n.index+1], c.name + " and " + n.name
	}
}

// change sets the weather of roads.
func change(roads []*road, d time.Duration, w weather) {
	w.until = time.Now().Add(d)
	for _, r := range roads {
		r.set(w)
	}
}

func (m *nemesis) cut(d time.Duration) string {
	to, back, where := m.roads()
	change(to, d, weather{held: true})
	change(back, d, weather{held: true})
	return fmt.Sprintf("%s for %v", where, d)
}

func (m *nemesis) oneWayCut(d time.Duration) string {
	to, back, where := m.roads()
	if m.random.IntN(2) == 0 {
		change(to, d, weather{held: true})
		return fmt.Sprintf("%s for %v: requests", where, d)
	}
	change(back, d, weather{held: true})
	return fmt.Sprintf("%s for %v: replies", where, d)
}

func (m *nemesis) loseRequests(d time.Duration) string {
	to, _, where := m.roads()
	change(to, d, weather{lose: 0.3})
	return fmt.Sprintf("%s for %v", where, d)
}

func (m *nemesis) loseReplies(d time.Duration) string {
	_, back, where := m.roads()
	change(back, d, weather{lose: 0.3})
	return fmt.Sprintf("%s for %v", where, d)
}

func (m *nemesis) tear(d time.Duration) string {
	to, back, where := m.roads()
	change(to, d, weather{tear: 0.2})
	change(back, d, weather{tear: 0.2})
	return fmt.Sprintf("%s for %v", where, d)
}

// delayRequests makes some late, by so much that their clients have given up.
func (m *nemesis) delayRequests(d time.Duration) string {
	to, _, where := m.roads()
	delay := time.Duration(1 + m.random.Int64N(int64(8*time.Second)))
	if m.world.Profile == Siege {
		delay = 8 * time.Second
	}
	change(to, d, weather{late: 0.3, delay: delay, slower: m.world.Latency})
	return fmt.Sprintf("%s for %v, by %v at most", where, d, delay)
}

func (m *nemesis) killClient(silently bool) string {
	c := m.client()
	c.crash(silently)
	m.world.replace(c)
	return c.name
}

func (m *nemesis) pauseClient(d time.Duration) string {
	c := m.client()
	c.paused.extend(time.Now().Add(d))
	return fmt.Sprintf("%s for %v", c.name, d)
}

func (m *nemesis) closeClient() string {
	c := m.client()
	m.world.replace(c)
	go c.close()
	return c.name
}

// wipe takes the keys away. Called with the mutex held.
func (n *node) wipe() {
	n.memory.FlushAll()
}

// spare does something to a node that costs it keys, if each of them is on a quorum of other nodes
// for at least as long; and its counters too, if forgets says so and others know them. It reports
// whether it did.
func (w *World) spare(n *node, forgets bool, do func()) bool {
	defer lockAll(w.nodes)()
	states := make([]map[string]holding, len(w.nodes))
	for i, other := range w.nodes {
		other.tick()
		states[i] = other.look()
	}
	for key, h := range states[n.index] {
		others := 0
		for i, other := range w.nodes {
			same := states[i][key]
			// A shortening that is on its way must not cut it there either.
			if other != n && !other.doomed && same.token == h.token && same.number >= h.number &&
				other.clock.ours(same.left) >= n.clock.ours(h.left) {
				others++
			}
		}
		if others < w.quorum() {
			return false
		}
	}
	if forgets && !w.forgettable(n) {
		return false
	}
	do()
	return true
}
