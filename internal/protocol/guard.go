package protocol

import (
	"errors"
	"time"

	"github.com/rediskit/redlock/internal/node"
)

// With a restart guard, a node that has restarted has no vote: it may have forgotten a lock that a
// quorum counts on it for. What gives a node a say has a guard on its script (see node.Guarded):
//
//   - acquire and wait, with which a node says that nobody has the lock, and healing, which is the
//     same script. A node that heals would confirm the lock from then on. But it may have granted
//     it to somebody else just before it restarted.
//   - inspect and watch, where a node that says "free" counts.
//
// Extend, release, and the look before an adoption have none. They say yes where the key holds our
// token, and a node that still has that after a restart has remembered what counts.

// GuardMark is the last line of scripts with a guard. It makes them other scripts, with digests of
// their own: Lockers without a guard have nodes load theirs at any time.
const GuardMark = "-- guarded: told only to a server that has been up for as long as any lock " +
	"lives\n"

// guardedName follows a script's name in SHA1SUMS where the digest is of the text with GuardMark.
const guardedName = " guarded"

// noteBarred tells of a node that has no vote, once for each restart, and reports whether err says
// so: it is neither an outage nor the end of one.
func (n *Nodes) noteBarred(i int, op string, err error) bool {
	if err == nil {
		return false // without an allocation
	}
	var barred *node.Quarantine
	if !errors.As(err, &barred) {
		return false
	}
	h := &n.nodes[i].health
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	until := now.Add(barred.Left)
	if until.After(h.barred.Add(slackOfUptime)) { // else it is the same restart
		n.tell(Trouble{Kind: Barred, Node: i, Op: op, Err: err})
	}
	h.barred = until
	return true
}

// slackOfUptime is by how much what a node says of the same restart may differ: it counts seconds.
const slackOfUptime = 2 * time.Second
