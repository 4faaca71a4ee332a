package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// lockState is what is known of a lock, as it is written in JSON. Times are in seconds. Fields may
// be added.
type lockState struct {
	Resource string `json:"resource"`
	State    string `json:"state"` // free, locked or unknown
	Owner    string `json:"owner,omitempty"`
	// missing where there is no lock, or one that never expires
	TTL     *float64 `json:"ttl,omitempty"`
	Held    *float64 `json:"held,omitempty"` // for how long top has seen this owner
	Waiters int      `json:"waiters"`
	Fence   uint64   `json:"fence,omitempty"`
	Error   string   `json:"error,omitempty"` // why the state is unknown

	err error
	ttl time.Duration // as Inspect has it
}

// look asks the nodes about a lock.
func (l *locker) look(ctx context.Context, name string) lockState {
	s, err := l.Inspect(ctx, name)
	state := lockState{Resource: name, State: "free", Owner: s.Owner, Waiters: s.Waiters,
		Fence: s.Fence, ttl: s.TTL, err: err}
	switch {
	case err != nil:
		state.State, state.Error = "unknown", err.Error()
	case s.Locked:
		state.State = "locked"
		if s.TTL >= 0 {
			state.TTL = seconds(s.TTL)
		}
	}
	return state
}

func seconds(d time.Duration) *float64 {
	s := d.Round(time.Millisecond).Seconds()
	return &s
}

// atOnce is about how many locks the nodes are asked at the same time.
const atOnce = 64

// lookAll asks the nodes about several locks.
func (l *locker) lookAll(ctx context.Context, names []string) []lockState {
	states := make([]lockState, len(names))
	var all sync.WaitGroup
	room := make(chan struct{}, atOnce)
	for i, name := range names {
		room <- struct{}{}
		all.Go(func() {
			states[i] = l.look(ctx, name)
			<-room
		})
	}
	all.Wait()
	return states
}

// lockHead is the head of a table of locks.
var lockHead = []string{"LOCK", "STATE", "OWNER", "TTL", "HELD", "WAITING", "FENCE"}

// row is a lock's line in such a table.
func (s *lockState) row() []string {
	row := []string{printable(s.Resource), s.State, "-", "-", "-", fmt.Sprint(s.Waiters), "-"}
	if s.State == "locked" {
		row[2], row[3] = printable(s.Owner), short(s.ttl)
		if s.ttl < 0 {
			row[3] = "for ever"
		}
	}
	if s.Held != nil && *s.Held > 0 {
		row[4] = short(time.Duration(*s.Held * float64(time.Second)))
	}
	if s.Fence != 0 {
		row[6] = fmt.Sprint(s.Fence)
	}
	return row
}

// statusCmd says whether locks are free.
type statusCmd struct {
	JSON  bool     `name:"json" help:"One JSON object for each lock, one a line. Times are in seconds."`
	Names []string `arg:"" name:"NAME" help:"What may be locked."`
}

// Help is shown by kong.
func (*statusCmd) Help() string {
	return `The exit status is 0 if all are free, 1 if one is locked, and 69 if of one it cannot be told.`
}

// Run is called by kong.
func (c *statusCmd) Run(g *globals) error {
	return g.with(func(ctx context.Context, l *locker) error {
		states := l.lookAll(ctx, c.Names)
		if err := c.write(states); err != nil {
			return err
		}
		code := 0
		var unknown []error
		for _, s := range states {
			switch {
			case s.err != nil:
				unknown = append(unknown, s.err)
			case s.State == "locked":
				code = codeLocked
			}
		}
		switch {
		case len(unknown) > 0:
			// whose code is that of an outage, or of a wrong configuration
			return errors.Join(unknown...)
		case code != 0:
			return &exit{code: code}
		}
		return nil
	})
}

func (c *statusCmd) write(states []lockState) error {
	if c.JSON {
		return writeJSON(states...)
	}
	rows := [][]string{lockHead}
	for _, s := range states {
		rows = append(rows, s.row())
	}
	return table(os.Stdout, withoutEmpty(rows))
}

func writeJSON[T any](values ...T) error {
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	for _, v := range values {
		if err := out.Encode(v); err != nil {
			return err
		}
	}
	return nil
}
