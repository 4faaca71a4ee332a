package sim

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
)

// node is a Redis master in memory.
type node struct {
	name    string
	index   int
	world   *World
	lua     bool         // scripts run as Lua and not as Go
	hung    moment       // until then it reads nothing, as after a SIGSTOP
	thought atomic.Int64 // how long it thinks about each answer
	serving sync.WaitGroup

	mu      sync.Mutex // one command at a time
	memory  memory
	clock   clock
	scripts map[string]*script // by their digests: what has been loaded
	conns   map[*conn]struct{}
	down    bool
	doomed  bool   // what it has will be gone when it comes back
	failing string // what it answers to scripts, while it is not empty
	every   int    // of how many scripts one fails
	tries   int
	runs    []run
	given   map[string]gift // by key
	inboxes *inboxes

	raisedBy map[string]string // whose token has raised the counter of a key last
	lives    int               // how often it was started
	started  time.Time         // the last time, on its own clock
}

// gift is the greatest number with which a token got time for a key: no cut with that number may
// take it away.
type gift struct {
	token  string
	number int
}

// run is a call of a script that a node ran.
type run struct {
	stamp
	at    time.Time
	verb  string
	token string
	keys  []string
	ours  bool // afterwards the token had all the keys
}

func newNode(w *World, index int, c clock, lua bool) (*node, error) {
	n := &node{
		name: fmt.Sprintf("n%d", index), index: index, world: w, lua: lua, clock: c,
		memory: memory{Miniredis: miniredis.NewMiniRedis()}, scripts: make(map[string]*script),
		conns: make(map[*conn]struct{}),
		given: make(map[string]gift), raisedBy: make(map[string]string),
		started: c.now().Add(-24 * time.Hour),
	}
	n.inboxes = newInboxes(n)
	n.memory.publish = n.inboxes.publish
	n.tick()
	n.memory.ClockTTL(true)
	wake, err := n.memory.Dial() // it has no commands before the first connection
	if err != nil {
		return nil, err
	}
	return n, wake.Close()
}

// tick sets the data's clock. Called with the mutex held.
func (n *node) tick() { n.memory.tick(n.clock.now()) }

var errRefused = errors.New("connection refused")

// accept serves a connection, if the node is up.
func (n *node) accept(c *conn) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.down {
		return errRefused
	}
	n.conns[c] = struct{}{}
	n.serving.Add(1)
	go n.serve(c)
	return nil
}

// serve answers what comes on a connection until that ends.
func (n *node) serve(c *conn) {
	defer n.serving.Done()
	in, out := bufio.NewReader(c), bufio.NewWriter(c)
	peer := server.NewPeer(out)
	for {
		args, err := readCommand(in)
		if err != nil {
			break
		}
		n.dispatch(peer, c, args)
		if in.Buffered() == 0 {
			peer.Flush()
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.conns, c)
	n.inboxes.unsubscribe(c)
	_ = c.Close()
}

// readCommand reads an array of strings.
func readCommand(in *bufio.Reader) ([]string, error) {
	length, err := readLength(in, '*')
	if err != nil {
		return nil, err
	}
	args := make([]string, length)
	for i := range args {
		n, err := readLength(in, '$')
		if err != nil {
			return nil, err
		}
		data := make([]byte, n+2)
		if _, err := io.ReadFull(in, data); err != nil {
			return nil, err
		}
		args[i] = string(data[:n])
	}
	return args, nil
}

func readLength(in *bufio.Reader, kind byte) (int, error) {
	line, err := in.ReadString('\n')
	if err != nil {
		return 0, err
	}
	if line[0] != kind {
		return 0, fmt.Errorf("not a command: %q", line)
	}
	return strconv.Atoi(strings.TrimSpace(line[1:]))
}

// dispatch runs one command. A crash between its arrival and now has taken it along.
func (n *node) dispatch(peer *server.Peer, c *conn, args []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, connected := n.conns[c]; !connected {
		return
	}
	n.tick()
	switch strings.ToUpper(args[0]) {
	case "EVAL":
		if s := n.learn(peer, args[1]); s != nil {
			n.eval(peer, c, s, args[2:])
		}
	case "SCRIPT": // LOAD
		if n.learn(peer, args[2]) != nil {
			peer.WriteBulk(digest(args[2]))
		}
	case "INFO":
		peer.WriteBulk(n.info())
	case "EVALSHA":
		n.eval(peer, c, n.scripts[args[1]], args[2:])
	case "SUBSCRIBE":
		n.inboxes.subscribe(peer, c, args[1:])
	default:
		n.memory.Server().Dispatch(peer, args)
	}
}

// learn takes a script's text. Called with the mutex held.
func (n *node) learn(peer *server.Peer, text string) *script {
	s, err := newScript(text)
	if err != nil {
		n.world.breach("harness", "%s: %v", n.name, err)
		peer.WriteError("ERR " + err.Error())
		return nil
	}
	n.scripts[digest(text)] = s
	return s
}

// uptime is in whole seconds, from and to seconds of its clock. Called with the mutex held.
func (n *node) uptime() int64 { return n.clock.now().Unix() - n.started.Unix() }

// info is what the library asks for, of a master that never was a replica. Called with the mutex
// held.
func (n *node) info() string {
	return fmt.Sprintf(
		"redis_version:7.0.15\r\nrun_id:%s.%d\r\nuptime_in_seconds:%d\r\nrole:master\r\n"+
			"master_replid:%s.%d\r\nmaster_replid2:%040d\r\n",
		n.name, n.lives, n.uptime(), n.name, n.lives, 0)
}

// voteless reports whether a guard gives the node no vote.
func (n *node) voteless(guard time.Duration) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.votelessLocked(guard)
}

func (n *node) votelessLocked(guard time.Duration) bool {
	return guard > 0 && (n.down || time.Duration(n.uptime())*time.Second < guard+time.Second)
}

// eval runs a script and watches what it does. Called with the mutex held.
func (n *node) eval(peer *server.Peer, c *conn, s *script, args []string) {
	n.tries++
	switch {
	case n.failing != "" && n.tries%n.every == 0:
		peer.WriteError(n.failing)
		return
	case s == nil:
		peer.WriteError("NOSCRIPT No matching script. Please use EVAL.")
		return
	}
	call, err := s.call(args)
	if err != nil {
		n.world.breach("harness", "%s: %v", n.name, err)
		peer.WriteError(err.Error())
		return
	}
	before := n.look()
	var counters map[string]counter
	if call.fenced() {
		counters = n.counters()
	}
	if s.native != nil && !n.lua {
		n.evalNative(peer, call)
	} else {
		n.memory.Server().Dispatch(peer, append([]string{"EVAL", s.text}, args...))
	}
	after := n.look()
	n.note(c.read, call, after)
	n.judge(call, before, after)
	n.judgeFences(call, before, after, counters)
}

func (n *node) evalNative(peer *server.Peer, c call) {
	reply := c.native(&n.memory, c.keys, c.args)
	peer.Block(func(w *server.Writer) { answer(w, reply) })
}

// note remembers what was run. Called with the mutex held.
func (n *node) note(from stamp, c call, after map[string]holding) {
	n.world.totals.runs.Add(1)
	if !c.ofLocks() {
		return
	}
	token, _ := c.owner()
	foreign := func(key string) bool { return after[key].token != token }
	verb := c.verb
	if c.takes() {
		verb = "acquire"
	}
	n.runs = append(n.runs, run{from, time.Now(), verb, token, c.locks,
		!slices.ContainsFunc(c.locks, foreign)})
}

// holding is what a node has under a key.
type holding struct {
	token  string
	number int           // of shortenings
	left   time.Duration // on the node's clock; 0: for ever
}

func (h holding) String() string { return fmt.Sprintf("%v with number %d", h.left, h.number) }

// look returns what the node has under the keys of the run. Called with the mutex held.
func (n *node) look() map[string]holding {
	found := make(map[string]holding, len(n.world.keys))
	for _, key := range n.world.keys {
		if value, err := n.memory.Get(key); err == nil {
			token, number := parted(value)
			found[key] = holding{token, number, n.memory.TTL(key)}
		}
	}
	return found
}

// state is look for those who do not have the mutex.
func (n *node) state() map[string]holding {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.tick()
	return n.look()
}

// judge checks that a call changed nothing but what its own token holds, without a greater number;
// that it created nothing but by an acquire; and that it shortened nothing but by a cut, and
// nothing that was given with the number of the cut or a greater one. Called with the mutex held.
func (n *node) judge(c call, before, after map[string]holding) {
	token, number := c.owner()
	for _, key := range n.world.keys {
		was, is := before[key], after[key]
		if was == is {
			continue
		}
		named := slices.Contains(c.locks, key)
		if was.token != "" && !(named && was.token == token && was.number <= number) {
			n.world.breach("only our own", "%s: %s %d (of %s) changed %s of %s from %v to %v",
				n.name, c.verb, number, n.world.short(token), key, n.world.short(was.token), was,
				is)
		}
		if is.token != "" && is.token != was.token && !(named && c.takes() && is.token == token) {
			n.world.breach("only our own", "%s: %s made %s for %s", n.name, c.verb, key,
				n.world.short(is.token))
		}
		if is.token != "" && is.left < was.left &&
			!(c.cuts() && number > max(was.number, n.greatest(key, was.token))) {
			n.world.breach("only our own",
				"%s: %s %d (of %s) shortened %s, given with number %d, from %v to %v",
				n.name, c.verb, number, n.world.short(token), key, n.greatest(key, was.token), was,
				is)
		}
	}
	n.noteGift(c, before, after)
}

// noteGift remembers that a call has given its keys their time, if it has. Called with the mutex
// held.
func (n *node) noteGift(c call, before, after map[string]holding) {
	ttl, ok := c.gives()
	token, number := c.owner()
	for _, key := range c.locks {
		was, is := before[key], after[key]
		refused := was.token == token && (was.number > number || c.takes() && was.number != number)
		ok = ok && !refused && is.token == token && is.left >= ttl
	}
	for _, key := range c.locks {
		switch {
		case ok && before[key].token == token:
			n.given[key] = gift{token, max(number, n.greatest(key, token))}
		case ok:
			n.given[key] = gift{token, number}
		}
	}
}

// greatest returns the greatest number with which the token got time for the key. Called with the
// mutex held.
func (n *node) greatest(key, token string) int {
	if g := n.given[key]; g.token == token {
		return g.number
	}
	return 0
}

func (n *node) thinks() time.Duration { return time.Duration(n.thought.Load()) }

// crash ends the process: connections break, and what was not read is gone. If its data are to be
// lost, that is only after every lock is over that it has, or has confirmed: within the given time,
// or there is no crash. Nor is there one if its fencing counters are needed. It returns how long
// that takes.
func (n *node) crash(empty bool, within time.Duration) (time.Duration, bool) {
	concerned := []*node{n}
	if empty {
		concerned = n.world.nodes
	}
	unlock := lockAll(concerned)
	away := n.oldest() + time.Second
	if n.down || empty && (away > within || !n.world.forgettable(n)) {
		unlock()
		return 0, false
	}
	n.down, n.doomed = true, empty
	conns := n.conns
	n.conns = make(map[*conn]struct{})
	unlock()
	for c := range conns {
		n.inboxes.unsubscribe(c)
		_ = c.Close()
	}
	return away, true
}

// lockAll locks nodes, which are in the order of their numbers.
func lockAll(nodes []*node) (unlock func()) {
	for _, n := range nodes {
		n.mu.Lock()
	}
	return func() {
		for _, n := range nodes {
			n.mu.Unlock()
		}
	}
}

// oldest returns how long it takes until every key has expired. Called with the mutex held.
func (n *node) oldest() (longest time.Duration) {
	n.tick()
	for _, h := range n.look() {
		longest = max(longest, n.clock.ours(h.left))
	}
	return longest
}

// restart starts it again, with its data or without. No script survives that.
func (n *node) restart(empty bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down, n.doomed = false, false
	n.scripts = make(map[string]*script)
	n.lives++
	n.started = n.clock.now()
	n.tick()
	if empty {
		n.memory.FlushAll()
	}
}

// jump sets the node's clock. A key expires at a time on it, so that it lives longer when the clock
// goes back.
func (n *node) jump(d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.jumpLocked(d)
}

func (n *node) jumpLocked(d time.Duration) {
	n.tick()
	found := n.look()
	n.clock.jump(d)
	n.tick()
	for key, h := range found {
		if d < 0 && h.left > 0 {
			n.memory.SetTTL(key, h.left-d)
		}
	}
}

// fail makes the node answer one of so many scripts with an error; with "" it works again.
func (n *node) fail(reply string, every int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.failing, n.every = reply, every
}

// close ends the node.
func (n *node) close() {
	n.crash(false, 0)
	n.serving.Wait()
	n.inboxes.close()
	n.memory.Close()
}
