package node

import (
	"context"
	"errors"
	"net"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	probeAfter   = 100 * time.Millisecond // without an answer, if that is not much of the patience
	probeShare   = 4                      // else after this share of it
	probeEvery   = time.Second            // at most so often
	probeTimeout = time.Second

	// coldTrips is how many round trips a first call takes on a connection that has to be made
	// first: to dial, HELLO, AUTH, what else go-redis says, the script's digest and its text.
	coldTrips = 8
)

// health is what is known of a master. Its fields are guarded by the node's mutex.
type health struct {
	options  *redis.Options // to dial the master; nil: unknown
	heard    time.Time      // when it last answered as it should
	asked    time.Time      // when the latest round trip began that it answered so
	err      error          // the last error of the client since then
	erredAt  time.Time
	probing  bool
	probedAt time.Time
	dial     time.Duration // how long that took; 0: unknown
}

// LastError returns the last error that the node's client gave (it could not dial, its pool was
// exhausted, it was closed, the server is loading its data ...), or nil if the node has answered
// since. It is for callers that have waited in vain: go-redis keeps an error for itself for as long
// as it tries again.
func (n *Node) LastError() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var latest *health
	for _, s := range n.streams {
		if h := &s.health; h.err != nil && (latest == nil || h.erredAt.After(latest.erredAt)) {
			latest = h
		}
	}
	if latest == nil {
		return nil
	}
	return latest.err
}

// ColdStart returns how long the first call may take to a node that has never answered, if it is
// known how long it takes to dial it; otherwise, and from the first answer on, 0.
func (n *Node) ColdStart() time.Duration {
	if n.answered.Load() {
		return 0
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	var dial time.Duration
	for _, s := range n.streams {
		dial = max(dial, s.health.dial)
	}
	return coldTrips * dial
}

// noteLocked takes from a round trip what it tells of the master.
func (s *stream) noteLocked(ctx context.Context, t *trip) {
	now := time.Now()
	if t.batch[0].Err == nil && !t.stuck { // one that hung says nothing of the distance
		s.pace.answeredLocked(t.began, now)
	}
	var failure error
	good := false
	for _, c := range t.batch {
		switch {
		case c.Err == nil || answered(c.Err) && !hasPrefix(c.Err, unfit):
			good = true
		default:
			failure = c.Err
			s.node.forgetRouteLocked(c, s)
		}
	}
	s.heardLocked(ctx, now, good, failure)
	if good && t.began.After(s.health.asked) {
		s.health.asked = t.began
	}
}

// heardLocked notes what the client gave: the answer that was asked for, or an error.
func (s *stream) heardLocked(ctx context.Context, now time.Time, good bool, failure error) {
	h := &s.health
	if good || failure != nil && answered(failure) {
		s.node.answered.Store(true)
	}
	switch {
	case good:
		h.heard, h.err = now, nil
	case ctx.Err() == nil || !errors.Is(failure, context.Canceled): // else it is our own
		h.err, h.erredAt = failure, now
	}
}

// unfit has the server's errors that are about the server, or the connection, and not the call.
var unfit = append([]string{
	"NOAUTH ", "WRONGPASS ", "NOPERM ", "MISCONF ", "OOM ", "BUSY ",
}, actsOn...)

// answered reports whether an error is what the server said.
func answered(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply)
}

// failsAtOnceLocked reports whether the last thing known of the master is an error that did not
// come from waiting: it refuses connections, or says no.
func (s *stream) failsAtOnceLocked() bool {
	err := s.health.err
	var network net.Error
	switch {
	case err == nil, errors.Is(err, context.DeadlineExceeded), poolExhausted(err):
		return false
	default:
		return !errors.As(err, &network) || !network.Timeout()
	}
}

// poolExhausted recognises an error that go-redis has not exported for long.
func poolExhausted(err error) bool {
	return strings.Contains(err.Error(), "connection pool timeout")
}

// suspectAfter is how long a round trip may take until the master is dialled.
func (s *stream) suspectAfter(t *trip) time.Duration {
	if s.health.options == nil {
		return t.patience
	}
	return min(probeAfter, t.patience/probeShare)
}

// suspectLocked has the master dialled because of a round trip that takes long, or plans that.
func (s *stream) suspectLocked(t *trip, now time.Time) {
	h := &s.health
	if h.options == nil || h.options.Dialer == nil || h.probing || t.probed {
		return
	}
	at := t.began.Add(s.suspectAfter(t))
	if again := h.probedAt.Add(probeEvery); at.Before(again) {
		at = again
	}
	if now.Before(at) {
		s.lookByLocked(now, at)
		return
	}
	t.probed, h.probing, h.probedAt = true, true, now
	s.node.probes++
	go s.probe(s.node.ctx)
}

// probe dials the master, and keeps what that shows. In its first second go-redis has no error for
// a port that refuses: recent versions (v9.23 is one) dial five times before they give one.
func (s *stream) probe(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	o, began := s.health.options, time.Now()
	conn, err := o.Dialer(ctx, o.Network, o.Addr)
	took := time.Since(began)
	if err == nil {
		_ = conn.Close()
	}

	n, h := s.node, &s.health
	n.mu.Lock()
	defer n.mu.Unlock()
	n.probes--
	h.probing = false
	switch {
	case err == nil:
		h.dial = took
	case h.heard.Before(began) && !errors.Is(err, context.Canceled):
		h.err, h.erredAt = err, time.Now()
	}
	if n.phase != closed {
		s.lookLocked(time.Now())
	}
	n.checkIdleLocked()
}
