package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/term"
)

// topCmd shows the locks that there are.
type topCmd struct {
	Once     bool          `help:"Show them once and end."`
	JSON     bool          `name:"json" help:"A JSON object on a line each time. Times are in seconds."`
	Interval time.Duration `short:"i" placeholder:"D" default:"2s" help:"How often to look: every 2s by default."`
	Pattern  string        `arg:"" name:"PATTERN" optional:"" default:"*" help:"Which locks, by name: * stands for anything, ? for one character (default: all)."`
}

// Help is shown by kong.
func (*topCmd) Help() string {
	return `On a terminal it draws the screen anew each time, until Ctrl-C. Elsewhere it writes plain text.

It finds locks with SCAN, which goes through all keys of the database, some at a time. HELD is for how long top itself has seen the same owner. The exit status with --once is 69 if too few nodes answer.`
}

// Validate is called by kong.
func (c *topCmd) Validate() error {
	if c.Interval < 100*time.Millisecond {
		return fmt.Errorf("--interval must be at least 100ms, not %v", c.Interval)
	}
	return nil
}

// snapshot is what top has seen at one time, as it is written in JSON. Fields may be added.
type snapshot struct {
	Time  time.Time   `json:"time"`
	Nodes []nodeState `json:"nodes"`
	Locks []lockState `json:"locks"`
}

// nodeState is whether a node answers.
type nodeState struct {
	Addr  string `json:"addr"`
	Error string `json:"error,omitempty"`
}

// failed returns how many nodes do not answer.
func (s *snapshot) failed() (n int) {
	for _, node := range s.Nodes {
		if node.Error != "" {
			n++
		}
	}
	return n
}

// Run is called by kong.
func (c *topCmd) Run(g *globals) error {
	return g.with(func(ctx context.Context, l *locker) error {
		show, restore := c.output(l)
		defer restore()
		seen := sightings{}
		for {
			s := l.snap(ctx, c.Pattern)
			if ctx.Err() != nil {
				return c.interrupted(ctx)
			}
			seen.update(&s)
			if err := show(&s); err != nil {
				return err
			}
			if c.Once {
				return outage(&s)
			}
			select {
			case <-ctx.Done():
				return c.interrupted(ctx)
			case <-time.After(c.Interval):
			}
		}
	})
}

// interrupted is the end of a top that goes on until somebody ends it.
func (c *topCmd) interrupted(ctx context.Context) error {
	return &exit{code: codeOf(context.Cause(ctx))}
}

// outage is the error of a snapshot to which too few nodes have contributed.
func outage(s *snapshot) error {
	if failed := s.failed(); failed > (len(s.Nodes)-1)/2 {
		return &exit{codeNoQuorum, fmt.Errorf("%d of %d nodes do not answer", failed, len(s.Nodes))}
	}
	return nil
}

// snap looks at all locks whose names fit a pattern.
func (l *locker) snap(ctx context.Context, pattern string) snapshot {
	s := snapshot{Time: time.Now(), Locks: []lockState{}}
	found, errs := onEach(l.clients, func(_ int, node *redis.Client) ([]string, error) {
		return l.scan(ctx, node, pattern)
	})
	names := map[string]bool{}
	for i, node := range l.clients {
		state := nodeState{Addr: node.Options().Addr}
		if errs[i] != nil {
			state.Error = errs[i].Error()
		}
		s.Nodes = append(s.Nodes, state)
		for _, name := range found[i] {
			names[name] = true
		}
	}
	for _, state := range l.lookAll(ctx, slices.Sorted(maps.Keys(names))) {
		free := state.State == "free" // given up meanwhile, or left on a minority
		if !free && !isFence(l.key(state.Resource), state.Owner) {
			s.Locks = append(s.Locks, state)
		}
	}
	return s
}

// scan returns the names of the locks that a node has keys of.
func (l *locker) scan(ctx context.Context, node *redis.Client,
	pattern string) (names []string, err error) {
	const perCall = 1000
	prefix := l.key("")
	keys := node.ScanType(ctx, 0, escapePattern(prefix)+pattern, perCall, "string").Iterator()
	for keys.Next(ctx) {
		names = append(names, strings.TrimPrefix(keys.Val(), prefix))
	}
	return names, keys.Err()
}

// escapePattern makes a pattern of a text that fits this text alone.
func escapePattern(text string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(text)
}

// isFence reports whether a key is the counter of fencing tokens that belongs to the key of a lock
// with a hash tag. Its value is no token of ours. The counters of other locks do not begin as keys
// of locks do.
func isFence(key, owner string) bool {
	_, behind, _ := strings.Cut(key, "{")
	tag, _, tagged := strings.Cut(behind, "}")
	return tagged && tag != "" && strings.HasSuffix(key, ":fence") && owner == "unknown"
}

// sightings remember since when locks have had their owners.
type sightings map[string]sighting

type sighting struct {
	owner string
	fence uint64
	since time.Time
}

// update notes what a snapshot shows, and tells it how old its locks are.
func (all sightings) update(s *snapshot) {
	gone := maps.Clone(all)
	for i := range s.Locks {
		lock := &s.Locks[i]
		delete(gone, lock.Resource)
		was, known := all[lock.Resource]
		switch {
		case lock.State == "unknown":
			continue
		case !known || was.owner != lock.Owner || was.fence != lock.Fence:
			was = sighting{lock.Owner, lock.Fence, s.Time}
			all[lock.Resource] = was
		}
		lock.Held = seconds(s.Time.Sub(was.since))
	}
	for name := range gone {
		delete(all, name)
	}
}

// output returns how snapshots are shown, and what to do after the last one.
func (c *topCmd) output(l *locker) (show func(*snapshot) error, restore func()) {
	switch {
	case c.JSON:
		return func(s *snapshot) error { return writeJSON(s) }, func() {}
	case c.Once || !term.IsTerminal(int(os.Stdout.Fd())):
		return func(s *snapshot) error { return s.write(os.Stdout) }, func() {}
	default:
		screen := newScreen()
		return func(s *snapshot) error {
			var text bytes.Buffer
			if err := s.write(&text); err != nil {
				return err
			}
			return screen.draw(text.String())
		}, screen.restore
	}
}

// write writes the snapshot as text.
func (s *snapshot) write(out io.Writer) error {
	waiting := 0
	for _, lock := range s.Locks {
		waiting += lock.Waiters
	}
	fmt.Fprintf(out, "%s  locks %d  waiting %d  nodes %d/%d\n", s.Time.Format(time.TimeOnly),
		len(s.Locks), waiting, len(s.Nodes)-s.failed(), len(s.Nodes))
	for i, node := range s.Nodes {
		if node.Error != "" {
			fmt.Fprintf(out, "node %d (%s): %s\n", i, node.Addr, printable(node.Error))
		}
	}
	rows := [][]string{lockHead}
	for _, lock := range s.Locks {
		rows = append(rows, lock.row())
	}
	if err := table(out, withoutEmpty(rows)); err != nil {
		return err
	}
	_, err := fmt.Fprintln(out)
	return err
}
