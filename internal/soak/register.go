//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"time"

	"github.com/rediskit/redlock/internal/history"
)

// registers are what the locks guard: a number for each resource, which whoever has the lock reads
// and, a little later, replaces. The parent keeps them, so that a client's death leaves no doubt
// about what it has written. An access with a fencing token below one seen before is refused. Where
// there are none, so is a write that comes when its lease is over, from a client that was stopped
// meanwhile.
type registers struct {
	clock    clock
	log      *history.Log
	listener *net.UnixListener
	wg       sync.WaitGroup

	mu     sync.Mutex
	conns  map[net.Conn]struct{} // guarded by mu
	values map[string]int64      // guarded by mu
	fences map[string]uint64     // guarded by mu; the highest seen
	stale  int                   // guarded by mu; writes refused
}

// access is a request. The first of a holder reads, the second writes New.
type access struct {
	Client, Resource, Token string
	Write                   bool
	Old, New                int64
	Began                   time.Duration // of a write: when the read was made
	Until                   time.Duration // the end of the lease
	Fence                   uint64
}

// accessed is the reply.
type accessed struct {
	Began   time.Duration // not after the access
	Value   int64
	Refused bool
}

func openRegisters(dir string, c clock, log *history.Log) (*registers, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "registers"),
		Net: "unix"})
	if err != nil {
		return nil, err
	}
	r := &registers{
		clock: c, log: log, listener: l,
		conns: make(map[net.Conn]struct{}), values: make(map[string]int64),
		fences: make(map[string]uint64),
	}
	r.wg.Add(1)
	go r.accept()
	return r, nil
}

func (r *registers) addr() string { return r.listener.Addr().String() }

// close waits for the goroutines.
func (r *registers) close() {
	_ = r.listener.Close()
	r.mu.Lock()
	for conn := range r.conns {
		_ = conn.Close()
	}
	r.mu.Unlock()
	r.wg.Wait()
}

func (r *registers) refused() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stale
}

func (r *registers) accept() {
	defer r.wg.Done()
	for {
		conn, err := r.listener.Accept()
		if err != nil {
			return // closed
		}
		r.mu.Lock()
		r.conns[conn] = struct{}{}
		r.mu.Unlock()
		r.wg.Add(1)
		go r.serve(conn)
	}
}

func (r *registers) serve(conn net.Conn) {
	defer r.wg.Done()
	defer func() {
		_ = conn.Close()
		r.mu.Lock()
		delete(r.conns, conn)
		r.mu.Unlock()
	}()
	in, out := json.NewDecoder(conn), json.NewEncoder(conn)
	for {
		var a access
		if in.Decode(&a) != nil {
			return // the client has gone
		}
		if out.Encode(r.do(a)) != nil {
			return
		}
	}
}

// do makes the access and records it.
func (r *registers) do(a access) accessed {
	e := history.Event{Kind: history.Read, Began: r.clock.now(), Client: a.Client,
		Resources: []string{a.Resource}, Token: a.Token, Fence: a.Fence}
	r.mu.Lock()
	refused := a.Fence < r.fences[a.Resource] || a.Fence == 0 && a.Write && r.clock.now() >= a.Until
	if refused {
		r.stale++
	} else {
		r.fences[a.Resource] = a.Fence
		e.Old = r.values[a.Resource]
		if a.Write {
			e.Kind, e.Began, e.Old, e.New = history.Swapped, a.Began, a.Old, a.New
			r.values[a.Resource] = a.New
		}
	}
	r.mu.Unlock()
	e.At = r.clock.now()
	if !refused {
		r.log.Add(e)
	}
	return accessed{Began: e.Began, Value: e.Old, Refused: refused}
}

// visitor is a client's connection to the registers.
type visitor struct {
	conn net.Conn
	in   *json.Decoder
	out  *json.Encoder
}

func visit(addr string) (*visitor, error) {
	conn, err := net.Dial("unix", addr)
	if err != nil {
		return nil, fmt.Errorf("registers: %w", err)
	}
	return &visitor{conn, json.NewDecoder(conn), json.NewEncoder(conn)}, nil
}

func (v *visitor) close() { _ = v.conn.Close() }

func (v *visitor) do(a access) (r accessed, err error) {
	if err = v.out.Encode(a); err == nil {
		err = v.in.Decode(&r)
	}
	return r, err
}
