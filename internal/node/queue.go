package node

// queue is a doubly linked list of calls, so that any of them can leave at once.
type queue struct {
	head, tail *Call
	length     int
}

func (q *queue) push(c *Call) {
	c.state, c.prev, c.next = queued, q.tail, nil
	if q.tail == nil {
		q.head = c
	} else {
		q.tail.next = c
	}
	q.tail = c
	q.length++
}

// remove takes a call out of the queue; the caller says what becomes of it.
func (q *queue) remove(c *Call) {
	if c.prev == nil {
		q.head = c.next
	} else {
		c.prev.next = c.next
	}
	if c.next == nil {
		q.tail = c.prev
	} else {
		c.next.prev = c.prev
	}
	c.prev, c.next = nil, nil
	q.length--
}

// each calls f for every call, which f may remove.
func (q *queue) each(f func(c *Call)) {
	for c := q.head; c != nil; {
		next := c.next
		f(c)
		c = next
	}
}

// contains reports whether a call of the queue is as asked for.
func (q *queue) contains(is func(c *Call) bool) bool {
	for c := q.head; c != nil; c = c.next {
		if is(c) {
			return true
		}
	}
	return false
}
