package redistest

import (
	"bytes"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Proxy forwards TCP connections to one server and misbehaves when told to. All
// faults can be switched at any time and apply to the connections that exist.
//
// Two things differ from a bad network: a connection attempt succeeds at once
// even if the server is down (the connection is then closed), and no fault but
// Refuse acts on connecting.
type Proxy struct {
	target   string
	listener *net.TCPListener
	wg       sync.WaitGroup // every goroutine of the proxy and its links

	mu      sync.Mutex
	faults  [2]fault           // guarded by mu; by direction
	held    [2][]*link         // guarded by mu; by direction; who keeps something back, in order
	refuse  bool               // guarded by mu
	drops   []*drop            // guarded by mu; in the order they were asked for
	links   map[*link]struct{} // guarded by mu
	changed chan struct{}      // guarded by mu; closed and replaced when somebody may deliver
	closed  bool               // guarded by mu

	swallowed atomic.Int64 // see Swallowed
}

type direction int

const (
	requests direction = iota // from the client to the server
	replies                   // from the server to the client
)

// fault is what happens to the bytes of one direction.
type fault struct {
	delay   time.Duration
	swallow bool
	hold    bool
}

// drop is one call of DropReplies.
type drop struct {
	match   []byte
	toMatch int           // requests still to look for
	toDrop  int           // replies still to lose
	done    chan struct{} // closed when toDrop is 0
}

// NewProxy runs a proxy in front of target until the end of the test.
func NewProxy(tb testing.TB, target string) *Proxy {
	tb.Helper()
	p, err := LaunchProxy(target)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { closeOrFail(tb, p) })
	return p
}

// LaunchProxy is NewProxy for programs: the caller closes the proxy.
func LaunchProxy(target string) (*Proxy, error) {
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, err
	}
	p := &Proxy{
		target:   target,
		listener: l,
		links:    make(map[*link]struct{}),
		changed:  make(chan struct{}),
	}
	p.spawn(p.accept)
	return p, nil
}

// Addr is where clients connect.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Client returns a new go-redis client of the proxy with stock options.
func (p *Proxy) Client(tb testing.TB) *redis.Client {
	tb.Helper()
	return newClient(tb, p.Addr())
}

// Delay adds d to the way of everything in each direction, so 2d to a round
// trip. Order and throughput stay: what is sent together arrives together. What
// is on its way keeps the delay it set out with.
func (p *Proxy) Delay(d time.Duration) {
	p.change(func() { p.faults[requests].delay, p.faults[replies].delay = d, d })
}

// DelayRequests sets the delay on the way to the server.
func (p *Proxy) DelayRequests(d time.Duration) {
	p.change(func() { p.faults[requests].delay = d })
}

// DelayReplies sets the delay on the way back.
func (p *Proxy) DelayReplies(d time.Duration) {
	p.change(func() { p.faults[replies].delay = d })
}

// SwallowRequests makes requests vanish while it is on. A connection that has
// lost one passes no more requests even when it is off again: TCP may end, but
// never skips bytes. The end of a connection vanishes too, so that to the server
// a client closed meanwhile looks like a host that lost its power.
func (p *Proxy) SwallowRequests(on bool) {
	p.change(func() { p.faults[requests].swallow = on })
}

// Swallowed returns how many bytes of requests have vanished so far. Whoever ends
// a fault waits for it: what has not been read by then is passed on.
func (p *Proxy) Swallowed() int { return int(p.swallowed.Load()) }

// SwallowReplies makes replies vanish while it is on: the server does what it is
// told and the client does not learn of it. What SwallowRequests says about
// connections holds here too.
func (p *Proxy) SwallowReplies(on bool) {
	p.change(func() { p.faults[replies].swallow = on })
}

// HoldRequests keeps requests back while it is on. When it is off again it
// delivers them, even those of a client that has closed its connection since: so
// does TCP when a partition heals. What came first is delivered first, on
// whatever connection. Only Cut and Close destroy what is held.
func (p *Proxy) HoldRequests(on bool) {
	p.change(func() { p.faults[requests].hold = on })
}

// Held returns how many connections have requests that are kept back.
func (p *Proxy) Held() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.held[requests])
}

// HoldReplies keeps replies back while it is on.
func (p *Proxy) HoldReplies(on bool) {
	p.change(func() { p.faults[replies].hold = on })
}

// Refuse closes new connections at once while it is on.
func (p *Proxy) Refuse(on bool) {
	p.change(func() { p.refuse = on })
}

// DropReplyOnce is DropReplies for one reply.
func (p *Proxy) DropReplyOnce(match string) <-chan struct{} {
	return p.DropReplies(1, match)
}

// DropReplies loses the replies to the next n requests that contain match, such
// as "evalsha": the server executes them, and instead of the reply the client's
// connection is reset, which makes a go-redis client with stock options repeat
// the command. The channel is closed when the n-th reply has been lost. Commands
// sent before the reply to the one in front of them may lose more than one reply.
func (p *Proxy) DropReplies(n int, match string) <-chan struct{} {
	d := &drop{match: []byte(match), toMatch: n, toDrop: n, done: make(chan struct{})}
	p.change(func() { p.drops = append(p.drops, d) })
	return d.done
}

// Cut resets all connections, on both sides; what was held or delayed on them is
// lost. New ones are welcome.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.abort()
	}
}

// Forget makes everything that is sent on the connections there are vanish, in both directions and
// without a word to either side. New ones are welcome. So does a firewall that has forgotten its
// connections.
func (p *Proxy) Forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.forgotten.Store(true)
	}
}

// Close cuts everything and waits for the proxy's goroutines.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.closed = true
	_ = p.listener.Close() // twice is no error worth telling
	for l := range p.links {
		l.abort()
	}
	p.mu.Unlock()
	p.wg.Wait()
	return nil
}

// change applies a fault and wakes those who wait for one to end.
func (p *Proxy) change(apply func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	apply()
	p.wakeLocked()
}

func (p *Proxy) wakeLocked() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// spawn runs f on a goroutine that Close waits for.
func (p *Proxy) spawn(f func()) {
	p.wg.Add(1)
	go func() {
		defer p.wg.Done()
		f()
	}()
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.AcceptTCP()
		if err != nil {
			return // closed
		}
		p.spawn(func() { p.serve(client) })
	}
}

// serve connects a client through and stays until the link has ended.
func (p *Proxy) serve(client *net.TCPConn) {
	server, err := net.DialTimeout("tcp", p.target, 5*time.Second)
	if err != nil {
		reset(client)
		return
	}
	l := newLink(p, client, server.(*net.TCPConn))
	if p.enter(l) {
		l.run()
		p.leave(l)
	}
}

// enter registers a link, or aborts it if the proxy refuses or is closed. Deciding
// here, under the lock, leaves no gap: after Refuse and Cut there is no link.
func (p *Proxy) enter(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.refuse {
		l.abort()
		return false
	}
	p.links[l] = struct{}{}
	return true
}

func (p *Proxy) leave(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, l)
}

// fault returns the state of one direction.
func (p *Proxy) fault(d direction) fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.faults[d]
}

// mayDeliver reports whether it is a link's turn: nothing is held, and nothing that was held before
// is still to be delivered. Else the link gets its place, and a channel that is closed when it
// should ask again.
func (p *Proxy) mayDeliver(l *link, d direction) (bool, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	held := p.held[d]
	if !p.faults[d].hold && (len(held) == 0 || held[0] == l) {
		return true, nil
	}
	if !slices.Contains(held, l) {
		p.held[d] = append(held, l)
	}
	return false, p.changed
}

// delivered gives up a link's place.
func (p *Proxy) delivered(l *link, d direction) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.held[d], l); i >= 0 {
		p.held[d] = slices.Delete(p.held[d], i, i+1)
		p.wakeLocked()
	}
}

// matchDrop finds a drop that the request just read asks for. before is what
// came ahead of it on the connection: a match may straddle two reads.
func (p *Proxy) matchDrop(before, data []byte) *drop {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range p.drops {
		if d.toMatch > 0 && containsNew(before, data, d.match) {
			d.toMatch--
			return d
		}
	}
	return nil
}

// containsNew reports whether match ends within data.
func containsNew(before, data, match []byte) bool {
	tail := before[max(0, len(before)-len(match)+1):]
	return bytes.Contains(append(tail[:len(tail):len(tail)], data...), match)
}

func (p *Proxy) dropped(d *drop) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if d.toDrop--; d.toDrop == 0 {
		close(d.done)
	}
}

// reset closes a connection the hard way, so that the other side sees an error
// and not an orderly end.
func reset(conn *net.TCPConn) {
	_ = conn.SetLinger(0)
	_ = conn.Close()
}
