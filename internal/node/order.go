package node

import "slices"

// What keeps calls in order: a call that follows others is parked until they are done. So two
// calls that follow each other are never in one batch, where a script that must be sent again as
// text would be overtaken by the calls behind it.

// followLocked makes c wait for another call, if that is not nil and not done.
func (c *Call) followLocked(earlier *Call) {
	if earlier == nil || earlier.state == fresh || earlier.state == done {
		return
	}
	if len(earlier.followers) == cap(earlier.followers) { // before it grows: forget the dropped ones
		earlier.followers = slices.DeleteFunc(earlier.followers, func(f *Call) bool {
			return f.state == done
		})
	}
	earlier.followers = append(earlier.followers, c)
	c.waits++
}

// HoldBack keeps later acquires of these keys behind c although its caller has gone on: calls that
// are HeldBack and share one of the keys wait until c is done. It ends when c has failed once,
// because a node that does not do what it is asked would hold others up for as long as c is
// repeated.
func (n *Node) HoldBack(c *Call, keys []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.holdBackLocked(c, keys)
}

func (n *Node) holdBackLocked(c *Call, keys []string) {
	if c.state == fresh || c.state == done || c.failures > 0 {
		return
	}
	c.holds = keys
	for _, key := range keys {
		n.holding[key] = c
	}
}

// stopHoldingLocked lets calls of other owners overtake c from now on.
func (n *Node) stopHoldingLocked(c *Call) {
	for _, key := range c.holds {
		if n.holding[key] == c {
			delete(n.holding, key)
		}
	}
	c.holds = nil
}

// letOthersGoLocked ends the wait of the calls that wait for c only because it holds them back.
func (n *Node) letOthersGoLocked(c *Call) {
	if c.holds == nil {
		return
	}
	n.stopHoldingLocked(c)
	var others, own []*Call
	for _, f := range c.followers {
		if f.after == c {
			own = append(own, f)
		} else {
			others = append(others, f)
		}
	}
	c.followers = own
	n.letGoLocked(others)
}

// letGoLocked ends the wait of calls for another one.
func (n *Node) letGoLocked(followers []*Call) {
	for _, f := range followers {
		if f.waits--; f.waits == 0 && f.state == parked {
			n.enqueueLocked(f)
		}
	}
}

// endLocked marks a call as done and lets go of those that wait for it.
func (n *Node) endLocked(c *Call) {
	c.state = done
	n.unended--
	n.stopHoldingLocked(c)
	followers := c.followers
	c.followers = nil
	n.letGoLocked(followers)
}
