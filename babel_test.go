//go:build go1.25

package redlock_test

import (
	"errors"
	"math"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
)

// babel is a Locker among nodes that say what they like.
type babel struct {
	*testing.T
	l      *redlock.Locker
	nodes  []*babbler
	said   atomic.Int64 // answers of all nodes
	slow   bool
	asked  []string // keys
	quorum int

	renewing bool
}

// now returns the number of the latest answer, when those are in that nobody has waited for.
func (b *babel) now() int64 {
	synctest.Wait()
	return b.said.Load()
}

// then returns the number of the latest answer that was given before t.
func (b *babel) then(t time.Time) (latest int64) {
	for _, n := range b.nodes {
		n.mu.Lock()
		for _, c := range n.calls {
			if c.at.Before(t) {
				latest = max(latest, c.number)
			}
		}
		n.mu.Unlock()
	}
	return latest
}

// since returns what a node has answered to a script after the answer with the given number.
func (b *babel) since(start int64, node int, script string,
	match func(c *babble) bool) (calls []babble) {
	n := b.nodes[node]
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.calls {
		if c.script == script && c.number > start && (match == nil || match(&c)) {
			calls = append(calls, c)
		}
	}
	return calls
}

// count counts the nodes whose answers since then say yes for all keys, and those of which one says
// no.
func (b *babel) count(start int64, script string,
	match func(c *babble) bool) (yes, no, answered int) {
	for i := range b.nodes {
		granted, refused := map[string]bool{}, false
		for _, c := range b.since(start, i, script, match) {
			switch c.means() {
			case votesYes:
				for _, key := range c.keys {
					granted[key] = true
				}
			case votesNo:
				refused = true
			}
		}
		if len(granted) == len(b.asked) {
			yes++
		}
		if refused {
			no++
		}
		if refused || len(granted) > 0 {
			answered++
		}
	}
	return yes, no, answered
}

// explained checks an error that the nodes' answers have led to.
func (b *babel) explained(err error) {
	b.Helper()
	require.ErrorContains(b, err, "redlock: ")
	require.True(b, errors.Is(err, redlock.ErrHeld) || errors.Is(err, redlock.ErrNoQuorum) ||
		errors.Is(err, redlock.ErrLost) ||
		errors.Is(err, redlock.ErrReleased), err)
	var q *redlock.QuorumError
	if !errors.As(err, &q) {
		return
	}
	require.Less(b, q.Got, q.Need)
	for _, n := range q.Nodes {
		require.Error(b, n.Err)
		require.NotEqual(b, redis.Nil, n.Err, "nothing is no error")
	}
}

// settle lets everything happen that is still to come.
func settle() {
	time.Sleep(20 * time.Second)
	synctest.Wait()
}

// clean checks that every node that may have something of a token was told to delete it afterwards.
func (b *babel) clean(token string) {
	b.Helper()
	settle()
	for i := range b.nodes {
		for _, c := range b.since(0, i, "acquire", nil) {
			if c.token() != token || c.harmless() {
				continue
			}
			deleted := map[string]bool{}
			for _, d := range b.since(c.number, i, "release",
				func(d *babble) bool { return d.token() == token }) {
				for _, key := range d.keys {
					deleted[key] = true
				}
			}
			for _, key := range c.keys {
				require.True(b, deleted[key], "%q stays on node %d after %v, %v", key, i, c.reply,
					c.err)
			}
		}
	}
}

// acquire tries to take the resources and returns the handle, if the nodes' answers make one.
func (b *babel) acquire(resources []string, opts ...redlock.AcquireOption) *redlock.Handle {
	b.Helper()
	start := b.now()
	h, err := b.l.TryAcquireMulti(b.Context(), resources, opts...)
	yes, _, answered := b.count(start, "acquire", nil)
	if err == nil {
		require.GreaterOrEqual(b, yes, b.quorum, "a lock without a quorum")
		return h
	}
	require.Nil(b, h)
	b.explained(err)
	require.False(b, !b.slow && yes >= b.quorum, "a quorum without a lock: %v", err)
	require.False(b, errors.Is(err, redlock.ErrHeld) && answered < b.quorum,
		"too few have answered: %v", err)
	for i := range b.nodes {
		for _, c := range b.since(start, i, "acquire", nil) {
			b.clean(c.token())
		}
	}
	return nil
}

// extend extends the lock to ttl.
func (b *babel) extend(h *redlock.Handle, ttl time.Duration, shorter bool) {
	b.Helper()
	start, before := b.now(), h.Err()
	denials := start
	if b.renewing { // a renewal may be on its way, and have some of its answers
		denials = b.then(time.Now().Add(-2 * slowest))
	}
	until := h.ValidUntil()
	err := h.Extend(b.Context(), ttl)
	yes, _, _ := b.count(start, "extend", func(c *babble) bool { return !c.isCut() })
	yesCut, _, _ := b.count(start, "extend", (*babble).isCut)
	// who has denied the lock is not asked to shorten it, and counts there too
	_, no, _ := b.count(denials, "extend", nil)
	switch {
	case err == nil:
		require.NoError(b, before)
		require.GreaterOrEqual(b, yes, b.quorum, "extended without a quorum")
		require.True(b, !shorter || yesCut >= b.quorum, "shortened without a quorum")
		require.False(b, h.ValidUntil().After(time.Now().Add(ttl)))
	case errors.Is(err, redlock.ErrLost):
		fatal := len(b.nodes) - b.quorum + 1
		require.True(b, before != nil || no >= fatal, "lost too soon: %v", err)
		require.Equal(b, redlock.ErrLost, h.Err())
	default:
		b.explained(err)
		require.NoError(b, h.Err())
		require.False(b, !b.renewing && h.ValidUntil().After(until),
			"the lease is what it was, or shorter")
	}
}

// release gives the lock back.
func (b *babel) release(h *redlock.Handle) {
	b.Helper()
	start, before := b.now(), h.Err()
	err := h.Release(b.Context())
	_, no, answered := b.count(start, "release", nil)
	fatal := len(b.nodes) - b.quorum + 1
	switch {
	case err == nil:
		require.NoError(b, before)
		require.GreaterOrEqual(b, answered, b.quorum, "too few have answered")
	case errors.Is(err, redlock.ErrLost):
		require.True(b, before != nil || no >= fatal, err)
	default:
		b.explained(err)
	}
	require.Equal(b, err, h.Release(b.Context()))
	b.clean(h.Token())
}

// adopt continues a lock.
func (b *babel) adopt(resources []string) {
	b.Helper()
	start, began := b.now(), time.Now()
	h, err := b.l.Adopt(b.Context(), resources, adopted)
	var kept []time.Duration
	for i := range b.nodes {
		least, found := time.Duration(math.MaxInt64), 0
		for _, c := range b.since(start, i, "inspect", nil) {
			list, _ := c.reply.([]any)
			for k := 0; c.means() == votesYes && k < len(list); k += 2 {
				if ms := list[k+1].(int64); list[k] != nil && bare(list[k].(string)) == adopted {
					found++
					if ms >= 0 && ms < math.MaxInt64/1_000_000 {
						least = min(least, time.Duration(ms)*time.Millisecond)
					}
				}
			}
		}
		if found >= len(b.asked) {
			kept = append(kept, least)
		}
	}
	slices.Sort(kept)
	if err != nil {
		require.Nil(b, h)
		b.explained(err)
		return
	}
	require.GreaterOrEqual(b, len(kept), b.quorum, "adopted without a quorum")
	if most := kept[len(kept)-b.quorum]; most < tenYears {
		require.False(b, h.ValidUntil().After(began.Add(most)),
			"trusted for longer than it is kept")
	}
	b.release(h)
}

// look asks who has a resource.
func (b *babel) look(resource string) {
	b.Helper()
	start := b.now()
	locked, err := b.l.IsLocked(b.Context(), resource)
	synctest.Wait()
	answered, owners, most := 0, map[string]int{}, 0
	for i := range b.nodes {
		for _, c := range b.since(start, i, "inspect", nil) {
			if c.means() == votesYes {
				answered++
				if value := c.reply.([]any)[0]; value != nil {
					owner := bare(value.(string))
					owners[owner]++
					most = max(most, owners[owner])
				}
			}
		}
	}
	mayBe := most+len(b.nodes)-answered >= b.quorum
	switch {
	case err != nil:
		b.explained(err)
	case !locked:
		require.False(b, mayBe, "not locked, but %d of %d nodes name one owner and %d have "+
			"answered", most, len(b.nodes), answered)
	case !b.slow:
		require.True(b, mayBe, "locked, but %d of %d nodes name one owner and %d have answered",
			most, len(b.nodes), answered)
	}
}
