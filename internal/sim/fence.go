package sim

import (
	"slices"
	"strconv"
	"strings"
)

// counter is what stands beside a lock key, and which token has raised it.
type counter struct {
	number uint64
	by     string
}

func counterKey(key string) string { return "{" + key + "}:fence" }

func isCounter(key string) bool { return strings.HasSuffix(key, "}:fence") }

// counters returns the fencing counters of a node. Called with the mutex held.
func (n *node) counters() map[string]counter {
	found := make(map[string]counter)
	for _, key := range n.world.keys {
		if value, err := n.memory.Get(counterKey(key)); err == nil {
			number, _ := strconv.ParseUint(value, 10, 64)
			found[key] = counter{number, n.raisedBy[key]}
		}
	}
	return found
}

// judgeFences checks that a call lowered no counter and raised none but of locks that are its
// token's afterwards; that a counter grew where a lock changed its owner; and that no lock is
// healed without its fence. Called with the mutex held.
func (n *node) judgeFences(c call, locks, locksAfter map[string]holding,
	before map[string]counter) {
	if !c.fenced() {
		return
	}
	token, _ := c.owner()
	heals := c.verb == "acquire" && strings.HasPrefix(c.args[3], "=")
	for key, is := range n.counters() {
		was := before[key]
		took := locks[key].token != token && locksAfter[key].token == token
		switch fence := n.world.fenceOf(token); {
		case is.number < was.number:
			n.world.breach("fencing", "%s: %s of %s lowered the counter of %s from %d to %d",
				n.name, c.verb, n.world.short(token), key, was.number, is.number)
		case is.number > was.number && !(slices.Contains(c.locks, key) &&
			locksAfter[key].token == token):
			n.world.breach("only our own", "%s: %s of %s raised the counter of %s", n.name, c.verb,
				n.world.short(token), key)
		case took && (is.number == was.number || heals && is.number < fence):
			n.world.breach("fencing",
				"%s: %s, whose fence is %d, got %s with the counter at %d, after %d",
				n.name, n.world.short(token), fence, key, is.number, was.number)
		}
		if is.number > was.number || took {
			n.raisedBy[key] = token
		}
	}
}

// forgettable reports whether a node may lose its counters: for each, so many other nodes know
// more, or the same of the same token, that every quorum has one of them. Where all clients have
// the same clock, nothing depends on the counters. Called with the mutexes of all nodes held.
func (w *World) forgettable(n *node) bool {
	if !w.Fencing || w.Skew == 0 {
		return true
	}
	for key, c := range n.counters() {
		others := 0
		for _, other := range w.nodes {
			if o := other.counters()[key]; other != n && !other.doomed &&
				(o.number > c.number || o == c) {
				others++
			}
		}
		if others < w.Nodes-w.quorum()+1 {
			return false
		}
	}
	return true
}

// fenceOf returns the fence of a token that a user has got, or 0.
func (w *World) fenceOf(token string) uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.fences[token]
}

func (w *World) setFence(token string, fence uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fences[token] = fence
}

// raised reports whether nodes had to be told of a lock's fence before it was granted.
func (w *World) raised(token string) bool {
	for _, n := range w.nodes {
		if n.ran("extend", token) {
			return true
		}
	}
	return false
}

// ran reports whether the node ran such a call of the token's.
func (n *node) ran(verb, token string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.ContainsFunc(n.runs, func(r run) bool {
		return r.token == token && r.verb == verb
	})
}
