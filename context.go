package redlock

import (
	"context"
	"reflect"
)

// Context returns a context that ends with parent, or when the lock ends: then its cause
// ([context.Cause]) is what Err returns. Called again with the same parent it returns the same
// context.
//
// The context itself compares the clock at each look. A context derived from it ends by a timer, or
// at the next look at the lock: within milliseconds as a rule, later in a process that was stopped.
func (h *Handle) Context(parent context.Context) context.Context {
	if known := h.contextOf(parent); known != nil {
		return known
	}
	// Without the mutex: parent may be a context of the handle's own, and looks at the lock too.
	inner, cancel := context.WithCancelCause(parent)
	ctx := &lockContext{Context: inner, h: h, cancel: cancel}
	return h.register(parent, ctx)
}

// contextOf returns the context that was made for a parent before, or nil.
func (h *Handle) contextOf(parent context.Context) context.Context {
	h.mu.Lock()
	defer h.unlock()
	if ctx := h.contexts[keyOf(parent, nil)]; ctx != nil {
		return ctx
	}
	return nil
}

// keyOf returns what a context is registered under: its parent, or where that cannot be a map's
// key, itself.
func keyOf(parent context.Context, ctx *lockContext) context.Context {
	if reflect.ValueOf(parent).Comparable() {
		return parent
	}
	return ctx
}

// register makes sure that the context ends with the lock, and returns it, or the one that somebody
// else has registered for the same parent meanwhile.
func (h *Handle) register(parent context.Context, ctx *lockContext) context.Context {
	h.mu.Lock()
	defer h.unlock()
	key := keyOf(parent, ctx)
	if h.lookLocked() == nil {
		h.watchLocked()
	}
	other := h.contexts[key]
	// A context is cancelled without the mutex: its parent may be one of the handle's own, and
	// looks.
	switch err := h.err; {
	case err != nil: // watching may have found the Locker closed
		h.posted = append(h.posted, func() { ctx.cancel(err) })
		return ctx
	case other != nil:
		h.posted = append(h.posted, func() { ctx.cancel(nil) }) // nobody has it
		return other
	case h.contexts == nil:
		h.contexts = make(map[context.Context]*lockContext, 1)
	}
	h.contexts[key] = ctx
	ctx.stop = context.AfterFunc(ctx.Context, func() { h.forget(key) })
	return ctx
}

// forget drops a context whose parent has ended. With the last of them nobody may be watching any
// more.
func (h *Handle) forget(key context.Context) {
	h.mu.Lock()
	defer h.unlock()
	delete(h.contexts, key)
	if len(h.contexts) == 0 && h.done == nil && !h.renewal.On && h.account == nil {
		h.unwatchLocked()
	}
}

// lockContext is a context that looks whether the lock still holds before it answers. So it never
// says "go on" after the end of the lease, not even in a process that was stopped and whose timers
// have yet to fire.
type lockContext struct {
	context.Context
	h      *Handle
	cancel context.CancelCauseFunc
	stop   func() bool // of the wait for the parent's end
}

func (c *lockContext) Done() <-chan struct{} {
	c.look()
	return c.Context.Done()
}

func (c *lockContext) Err() error {
	c.look()
	return c.Context.Err()
}

// Value looks too: that is how [context.Cause] asks, which before Go 1.25 reads no Err.
func (c *lockContext) Value(key any) any {
	c.look()
	if key == (heldKey{}) {
		return c
	}
	return c.Context.Value(key)
}

func (c *lockContext) look() {
	if err := c.h.Err(); err != nil {
		c.cancel(err)
	}
}
