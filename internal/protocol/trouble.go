package protocol

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rediskit/redlock/internal/node"
)

// Trouble is what no caller learns of otherwise.
type Trouble struct {
	Kind      Kind
	Node      int
	Addr      string
	Op        string        // NodeFails: what failed
	Err       error         // NodeFails, NoHints: how; Barred: why and for how long
	Resources []string      // Healed
	Calls     int           // NodeAnswers: how many failed meanwhile
	For       time.Duration // NodeAnswers: how long
	Stays     int           // NodeAnswers, KeysStay: locks whose keys could not be deleted
	Reachable int           // nodes that do not fail now
	Needed    int           // nodes that make a quorum
}

// Kind is what sort of trouble it is.
type Kind uint8

const (
	NodeFails   Kind = iota // a call failed, the one before did not
	NodeAnswers             // and now one did not fail
	Healed                  // a node had lost a lock and gets it again
	NoHints                 // a server refuses to say who waits for what; told once
	KeysStay                // when the Locker was closed, keys were left that expire by themselves
	Barred                  // a node has restarted and has no vote for some time
)

// news is trouble on its way to Tell.
type news struct {
	some atomic.Bool // whether there is any
	mu   sync.Mutex
	list []Trouble
	told chan struct{} // closed when the goroutine ends that tells them; nil: there is none
}

// tell has trouble told as soon as no lock is held: see passOn.
func (n *Nodes) tell(t Trouble) {
	t.Addr = n.Addr(t.Node)
	n.news.mu.Lock()
	defer n.news.mu.Unlock()
	// Under the mutex: whatever is told last says how it is.
	t.Reachable, t.Needed = n.Len(), n.Need()
	for i := range n.nodes {
		if n.nodes[i].health.failing.Load() {
			t.Reachable--
		}
	}
	n.news.list = append(n.news.list, t)
	n.news.some.Store(true)
}

// passOn has the news told, in the order in which they arose, by a goroutine of their own: whoever
// comes here may be in the middle of a Release, which an observer may call.
func (n *Nodes) passOn() {
	if !n.news.some.Load() {
		return
	}
	n.news.mu.Lock()
	defer n.news.mu.Unlock()
	if n.news.told == nil {
		n.news.told = make(chan struct{})
		go n.tellNews(n.news.told)
	}
}

func (n *Nodes) tellNews(told chan struct{}) {
	defer close(told)
	n.news.mu.Lock()
	defer n.news.mu.Unlock()
	for len(n.news.list) > 0 {
		list := n.news.list
		n.news.list = nil
		n.news.mu.Unlock()
		for _, t := range list {
			n.Tell(t)
		}
		n.news.mu.Lock()
	}
	n.news.told = nil
	n.news.some.Store(false)
}

// tellTime is how long Close waits for whoever is told the last news, and may hang. That is a time
// of its own: what keys stay is known when all others are over.
const tellTime = time.Second

// awaitNews waits until all news are told, but not for long.
func (n *Nodes) awaitNews() {
	ctx, cancel := context.WithTimeout(context.Background(), tellTime)
	defer cancel()
	for {
		n.news.mu.Lock()
		told := n.news.told
		n.news.mu.Unlock()
		if told == nil {
			return
		}
		select {
		case <-told:
		case <-ctx.Done():
			return
		}
	}
}

// health is whether a node does what it is asked, so that an outage is told twice: when it begins
// and when it is over.
type health struct {
	failing atomic.Bool  // whether there is anything to look up below
	stays   atomic.Int64 // locks whose keys could not be deleted

	mu    sync.Mutex
	since time.Time // zero: it does not fail
	calls int
	over  time.Time // when the latest outage was

	barred time.Time // until when a node has no vote, as was told
}

// note takes how a call to a node ended that was sent then. What was sent before an outage was
// over, and fails only now, is no new one.
func (n *Nodes) note(i int, op string, err error, sent time.Time) {
	h := &n.nodes[i].health
	switch {
	case n.noteBarred(i, op, err), ofTheCall(err):
	case failed(err):
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.since.IsZero() && sent.Before(h.over) {
			return
		}
		if h.calls++; h.since.IsZero() {
			h.since = time.Now()
			h.failing.Store(true)
			n.tell(Trouble{Kind: NodeFails, Node: i, Op: op, Err: err})
		}
	case h.failing.Load():
		h.mu.Lock()
		defer h.mu.Unlock()
		if !h.since.IsZero() {
			h.failing.Store(false) // first: what is told counts the nodes that fail
			n.tell(Trouble{
				Kind: NodeAnswers, Node: i, Calls: h.calls, For: time.Since(h.since),
				Stays: int(h.stays.Swap(0)),
			})
			h.since, h.calls, h.over = time.Time{}, 0, time.Now()
		}
	}
}

// ofTheCall reports whether an error says nothing of the node: the call was not sent, or is wrong
// in itself.
func ofTheCall(err error) bool {
	if errors.Is(err, node.ErrNotSent) || errors.Is(err, node.ErrClosed) {
		return true
	}
	return code(err) == "WRONGTYPE" || code(err) == "NOPERM"
}

// forbidden reports whether a server refused a call before running anything: it would have refused
// an earlier copy of it too.
func forbidden(err error) bool {
	c := code(err)
	return c == "NOPERM" || c == "NOAUTH" || c == "WRONGPASS"
}

// code returns the first word of a server's error reply, or "" if err is none.
func code(err error) string {
	if err == nil {
		return "" // without an allocation
	}
	var reply redis.Error
	if !errors.As(err, &reply) {
		return ""
	}
	word, _, _ := strings.Cut(reply.Error(), " ")
	return word
}
