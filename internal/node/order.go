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
	if len(earlier.followers) == cap(earlier.followers) {
		// before it grows: forget the dropped ones
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
	if c.state == fresh || c.state == done || c.failures > 0 || c.holds != nil {
		return
	}
	c.holds = keys // each of them once
	for _, key := range keys {
		n.holding[key] = append(n.holding[key], c)
	}
}

// waitsForHolders reports whether c waits for those that hold one of its keys back: for all of
// them, or only for those that the node may know of. A call that holds others back itself waits for
// the latter: what has not been sent yet says, when it is, what is right by then.
func (c *Call) waitsForHolders() (waits, all bool) {
	return c.HeldBack || len(c.HoldsBack) > 0, c.HeldBack
}

// followHoldersLocked makes c wait for those that hold one of its keys back. For each key it
// follows the last of them, which hands it on to the one before: see handOnLocked.
func (n *Node) followHoldersLocked(c *Call) {
	if waits, _ := c.waitsForHolders(); !waits || len(n.holding) == 0 {
		return
	}
	for _, key := range c.Keys {
		c.followOnceLocked(n.holding[key])
	}
}

// followOnceLocked makes c follow the last holder for whom it waits, unless it does so already.
func (c *Call) followOnceLocked(holders []*Call) {
	_, all := c.waitsForHolders()
	for _, h := range slices.Backward(holders) {
		if all || h.tried {
			if !slices.Contains(h.followers, c) {
				c.followLocked(h)
			}
			return
		}
	}
}

// replaceLocked drops the call that yields to c. The one before that stays: what it undoes the node
// may know of, and what the dropped one would have undone it does not, since that was still unsent.
// So of all that queue up behind a node that hangs, there are never more than two.
func (n *Node) replaceLocked(c *Call) {
	if !c.Yields || len(c.HoldsBack) == 0 {
		return
	}
	var last *Call
	for _, h := range slices.Backward(n.holding[c.HoldsBack[0]]) {
		switch {
		case h.tried || h.state == sent || h.after != nil || !h.Yields ||
			!slices.Equal(h.HoldsBack, c.HoldsBack):
		case last == nil:
			last = h
		default:
			n.letOthersGoLocked(last)
			if last.state == queued {
				last.stream.queue.remove(last)
			}
			n.returnLocked(last, ErrNotSent)
			return
		}
	}
}

// stopHoldingLocked lets calls of other owners overtake c from now on. It returns, by key, those
// that held it back before c did.
func (n *Node) stopHoldingLocked(c *Call) (before map[string][]*Call) {
	for _, key := range c.holds {
		holders := n.holding[key]
		i := slices.Index(holders, c)
		if i > 0 {
			if before == nil {
				before = make(map[string][]*Call)
			}
			before[key] = slices.Clone(holders[:i])
		}
		if len(holders) == 1 {
			delete(n.holding, key)
		} else {
			n.holding[key] = slices.Delete(holders, i, i+1)
		}
	}
	c.holds = nil
	return before
}

// handOnLocked has those who have waited for a holder wait for the holders before it. On a closed
// node all of them end.
func (n *Node) handOnLocked(followers []*Call, before map[string][]*Call) {
	if len(before) == 0 || n.phase == closed {
		return
	}
	for _, f := range followers {
		if waits, _ := f.waitsForHolders(); !waits || f.state == done {
			continue
		}
		for _, key := range f.Keys {
			f.followOnceLocked(before[key])
		}
	}
}

// letOthersGoLocked ends the wait of the calls that wait for c only because it holds them back.
func (n *Node) letOthersGoLocked(c *Call) {
	if c.holds == nil {
		return
	}
	before := n.stopHoldingLocked(c)
	var others, own []*Call
	for _, f := range c.followers {
		if f.after == c {
			own = append(own, f)
		} else {
			others = append(others, f)
		}
	}
	c.followers = own
	n.handOnLocked(others, before)
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
	before := n.stopHoldingLocked(c)
	followers := c.followers
	c.followers = nil
	n.handOnLocked(followers, before)
	n.letGoLocked(followers)
}
