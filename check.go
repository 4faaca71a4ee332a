package redlock

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rediskit/redlock/internal/node"
	"github.com/rediskit/redlock/internal/protocol"
	"github.com/rediskit/redlock/internal/quorum"
	"github.com/rediskit/redlock/internal/wallclock"
)

// Check says, node by node, what is wrong before it hurts: a node that cannot be reached, is no
// master, is the same server as another of the list, forbids a command, the keys or messages, may
// evict locks, or with [WithFencing] may forget counters when it restarts. It takes, extends, reads
// and releases a lock under a name of its own on each node, all at the same time, and waits for it:
// that shows more than asking for permissions does. What a server may not tell (INFO is forbidden)
// is no failure. With an empty prefix ([WithKeyPrefix]) neither is a name that the user may not
// use: there is no telling which ones will be used.
//
// It returns nil or a [CheckError], within ctx and a few node timeouts; [ErrClosed]; and ctx's
// error and cause, with what was found by then. A node that stops answering in the middle of the
// check takes as long as its client waits.
func (l *Locker) Check(ctx context.Context) error {
	if err := l.enter(ctx, "check", nil); err != nil {
		return err
	}
	defer l.leave()
	found := make([]finding, len(l.clients))
	var wg sync.WaitGroup
	for i := range l.clients {
		wg.Add(1)
		go func() {
			defer wg.Done()
			found[i] = l.checkNode(ctx, i)
		}()
	}
	wg.Wait()
	sameServer(found)
	err := l.checkError(found)
	switch cause := l.over(ctx); {
	case cause == nil || err == nil:
		return err
	case cause == ErrClosed:
		return stateError("check", nil, ErrClosed)
	default:
		return interrupt(ctx, cause, err)
	}
}

// CheckError lists what [Locker.Check] has found. Its text has a line for each finding, with what
// to do about it. It matches [ErrNoQuorum] where so many nodes are of no use that a quorum is
// missing, and [ErrMisconfigured] where no waiting mends that.
type CheckError struct {
	Nodes []NodeError // one for each finding, by node

	reason error // ErrNoQuorum or ErrMisconfigured; nil: enough nodes are of use
}

func (e *CheckError) Error() string {
	lines := make([]string, len(e.Nodes))
	for i := range e.Nodes {
		lines[i] = "redlock: " + said(e.Nodes[i:i+1])
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns ErrNoQuorum and ErrMisconfigured where they apply, and the nodes' errors.
func (e *CheckError) Unwrap() []error {
	if e.reason == nil {
		return matchable(e.Nodes)
	}
	return append(matchable(e.Nodes), e.reason)
}

// finding is what a check has found on a node.
type finding struct {
	useless []error  // why it cannot be counted on
	warning []error  // what may yet hurt
	waiting bool     // waiting may mend what is wrong
	servers []string // the run IDs behind the client, as far as they can be told
}

// checkNode looks at one node.
func (l *Locker) checkNode(ctx context.Context, i int) (f finding) {
	if err := l.rehearse(ctx, i); err != nil && !f.failed(ctx, err) {
		return f // nor asked for anything else
	}
	infos(ctx, l.clients[i], func(info map[string]string) { f.read(info, l.fencing) })
	if len(f.useless) > 0 {
		return f
	}
	if err := messages(ctx, l.clients[i]); err != nil && ctx.Err() == nil {
		hint, _ := misconfigured(err)
		f.warning = append(f.warning,
			advice("gives no messages, so that waiting calls ask it again and again", err, hint))
	}
	return f
}

// rehearse locks a name of its own on one node, in all ways that calls may need.
func (l *Locker) rehearse(ctx context.Context, i int) error {
	// The node has as long to answer as for a lock. What may not be deleted stays for the TTL.
	ttl := max(time.Second, 2*l.nodeTimeout)
	if l.nodeTimeout == 0 {
		ttl = max(ttl, 4*l.nodes.TimeoutFor(l.call.ttl))
	}
	k := l.nodes.Keys(l.prefix, []string{"redlock-check:" + rand.Text()})
	err := l.nodes.Rehearse(ctx, i, k, ttl, wallclock.Now(ctx))
	if l.prefix == "" && forbiddenName(err) {
		return nil // the names that are allowed may be any
	}
	return err
}

// failed notes how a rehearsal has failed. It reports whether the node has answered.
func (f *finding) failed(ctx context.Context, err error) (answered bool) {
	var silent *protocol.NoAnswer
	var reply redis.Error
	answered = true
	switch hint, permanent := misconfigured(err); {
	case ctx.Err() != nil && err == context.Cause(ctx):
		f.useless, f.waiting = []error{errors.New("had not answered yet")}, true
		answered = false
	case permanent:
		f.useless = append(f.useless, advice("cannot be used for locks", err, hint))
	case errors.As(err, &reply):
		f.useless, f.waiting = append(f.useless, advice("cannot take locks", err, "")), true
	default:
		hint := "is the server running, and the address right?"
		if errors.As(err, &silent) && silent.Last == nil {
			hint += " One that is far away needs a longer WithNodeTimeout"
		}
		f.useless, f.waiting = append(f.useless, advice("cannot be reached", err, hint)), true
		answered = false
	}
	return answered
}

// messages returns why a server does not let messages through, by which those who wait are told
// that a lock is free.
func messages(ctx context.Context, client node.Client) error {
	channel := "redlock:check:" + rand.Text()
	listener := client.Subscribe(ctx, channel)
	defer func() { _ = listener.Close() }()
	if _, err := listener.ReceiveTimeout(ctx, time.Second); err != nil {
		return err
	}
	pipe := client.Pipeline()
	pipe.Publish(ctx, channel, "")
	_, err := pipe.Exec(ctx)
	return err
}

// advice is what is wrong with a node and, if that is known, what to do.
func advice(problem string, err error, hint string) error {
	if hint == "" {
		return fmt.Errorf("%s: %w", problem, err)
	}
	return fmt.Errorf("%s: %w (%s)", problem, err, hint)
}

// forbiddenName reports whether a user may not touch a key of that name.
func forbiddenName(err error) bool {
	return err != nil && strings.Contains(err.Error(), "ermissions to access")
}

// infos reads what the servers behind a client say of themselves, one after the other, as far as
// they may.
func infos(ctx context.Context, client node.Client, read func(info map[string]string)) {
	one := func(ctx context.Context, c node.Client) {
		pipe := c.Pipeline()
		text := pipe.Info(ctx)
		if _, err := pipe.Exec(ctx); err != nil {
			return
		}
		info := make(map[string]string)
		for line := range strings.Lines(text.Val()) {
			if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
				info[name] = value
			}
		}
		read(info)
	}
	cluster, ok := client.(interface {
		ForEachMaster(ctx context.Context,
			fn func(ctx context.Context, c *redis.Client) error) error
	})
	switch {
	case ok:
		var mu sync.Mutex
		_ = cluster.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error {
			mu.Lock()
			defer mu.Unlock()
			one(ctx, c)
			return nil
		})
	case !isCluster(client):
		one(ctx, client)
	}
}

// read takes what a server says of itself.
func (f *finding) read(info map[string]string, fencing bool) {
	if id := info["run_id"]; id != "" {
		f.servers = append(f.servers, id)
	}
	switch {
	case info["redis_mode"] == "sentinel":
		f.useless = []error{errors.New("is a Sentinel: use redis.NewFailoverClient")}
		f.waiting = false
	case info["role"] == "slave":
		f.useless, f.waiting = []error{fmt.Errorf("is a replica of %s:%s, where locks cannot be "+
			"taken: use a master, or redis.NewFailoverClient",
			info["master_host"], info["master_port"])}, false
	}
	if policy := info["maxmemory_policy"]; policy != "" && policy != "noeviction" &&
		info["maxmemory"] != "0" {
		f.warning = append(f.warning, fmt.Errorf("may evict locks when its memory is full: set "+
			"maxmemory-policy to noeviction (it is %s, maxmemory %s bytes)",
			policy, info["maxmemory"]))
	}
	if fencing && info["aof_enabled"] == "0" {
		f.warning = append(f.warning, errors.New("forgets fencing tokens when it restarts: set "+
			"appendonly to yes (docs/fencing.md in github.com/rediskit/redlock)"))
	}
}

// sameServer finds nodes that lead to one server. The first of them counts.
func sameServer(found []finding) {
	first := make(map[string]int)
	for i := range found {
		for _, id := range found[i].servers {
			if j, known := first[id]; known && j != i {
				found[i].useless = append(found[i].useless,
					fmt.Errorf("is the same server as node %d (run ID %s): a quorum of them is "+
						"worth nothing, name each server once", j, id))
				found[i].waiting = false
			} else {
				first[id] = i
			}
		}
	}
}

// checkError makes an error of what was found, nil if that is nothing.
func (l *Locker) checkError(found []finding) error {
	e := &CheckError{}
	useful, hopeful := len(found), len(found)
	for i, f := range found {
		for _, err := range append(f.useless, f.warning...) {
			e.Nodes = append(e.Nodes, NodeError{i, l.nodes.Addr(i), err})
		}
		if len(f.useless) > 0 {
			useful--
			if !f.waiting {
				hopeful--
			}
		}
	}
	if len(e.Nodes) == 0 {
		return nil
	}
	switch need := quorum.Size(len(found)); {
	case hopeful < need:
		e.reason = ErrMisconfigured
	case useful < need:
		e.reason = ErrNoQuorum
	}
	return e
}
