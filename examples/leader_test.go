//go:build unix

package examples_test

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/redistest"
)

// leaderTTL is the TTL of the example.
const leaderTTL = 2 * time.Second

// ballot is three candidates of the example in processes of their own, each of them behind proxies
// of its own.
type ballot struct {
	t          *testing.T
	candidates map[string]*candidate
	lines      chan said
}

type candidate struct {
	*redistest.Child
	proxies []*redistest.Proxy
}

// said is a line of a candidate's, with the time of the clock that it printed.
type said struct {
	at   time.Time
	who  string
	what string
}

func holdBallot(t *testing.T) *ballot {
	t.Helper()
	path := program(t, "leader")
	servers := redistest.StartN(t, 3)
	b := &ballot{t: t, candidates: make(map[string]*candidate), lines: make(chan said, 10000)}
	for _, name := range []string{"anna", "ben", "carl"} {
		c := &candidate{}
		var addrs []string
		for _, s := range servers {
			p := s.Proxy(t)
			c.proxies, addrs = append(c.proxies, p), append(addrs, p.Addr())
		}
		out, in, err := os.Pipe()
		require.NoError(t, err)
		cmd := exec.Command(path, "-candidate", name, "-redis", strings.Join(addrs, ","))
		cmd.Stdout, cmd.Stderr = in, os.Stderr
		c.Child, err = redistest.LaunchChild(cmd)
		require.NoError(t, err)
		require.NoError(t, in.Close())
		read := make(chan struct{})
		go func() {
			defer close(read)
			b.read(out)
		}()
		t.Cleanup(func() {
			require.NoError(t, errors.Join(c.Kill(), out.Close()))
			<-read
		})
		b.candidates[name] = c
	}
	return b
}

// read passes on what a candidate says.
func (b *ballot) read(out *os.File) {
	for scanner := bufio.NewScanner(out); scanner.Scan(); {
		if f := strings.Fields(scanner.Text()); len(f) > 2 {
			if at, err := time.Parse("15:04:05.000000", f[0]); err == nil {
				b.lines <- said{at, f[1], strings.Join(f[2:], " ")}
			}
		}
	}
}

// next waits until somebody says something that begins so, and returns that, and all that was said
// until then.
func (b *ballot) next(who, what string) (found said, before []said) {
	b.t.Helper()
	limit := time.After(30 * time.Second)
	for {
		select {
		case l := <-b.lines:
			if (who == "" || l.who == who) && strings.HasPrefix(l.what, what) {
				return l, before
			}
			before = append(before, l)
		case <-limit:
			require.FailNow(b.t, "never said", "%s %s: %v", who, what, before)
		}
	}
}

// now is the time of the clock as the candidates print it.
func now() time.Time {
	at, _ := time.Parse("15:04:05.000000", time.Now().Format("15:04:05.000000"))
	return at
}

// after returns how long after another a time of the clock is, also over midnight.
func after(at, began time.Time) time.Duration {
	return (at.Sub(began)+36*time.Hour)%(24*time.Hour) - 12*time.Hour
}

// Whatever becomes of a leader, the next one comes when it must: at once where the leader could
// hand over, else with the end of the lock. And not before the leader has stepped down.
func TestNextLeaderComesWhenTheLeaderGoes(t *testing.T) {
	for _, fate := range []struct {
		name   string
		strike func(c *candidate) error
		handed bool // over
	}{
		{"asked to stop", func(c *candidate) error { return syscall.Kill(c.Pid(), syscall.SIGINT) },
			true},
		{"killed", func(c *candidate) error { return c.Kill() }, false},
		{"stopped", func(c *candidate) error { return c.Pause() }, false},
		{"cut off", func(c *candidate) error {
			for _, p := range c.proxies {
				p.SwallowRequests(true)
			}
			return nil
		}, false},
	} {
		t.Run(fate.name, func(t *testing.T) {
			t.Parallel()
			b := holdBallot(t)
			former, _ := b.next("", "leads")
			b.next(former.who, "works")
			struck := now()
			require.NoError(t, fate.strike(b.candidates[former.who]))
			next, before := b.next("", "leads")
			require.NotEqual(t, former.who, next.who)
			gap := after(next.at, struck)
			t.Logf("gap %v, of a TTL of %v", gap, leaderTTL)
			if fate.handed {
				require.Less(t, gap, leaderTTL)
				return
			}
			// The leader has renewed the lock at most a third of the TTL before.
			require.Greater(t, gap, leaderTTL/4)
			require.Less(t, gap, leaderTTL+10*time.Second)
			if fate.name == "stopped" {
				require.NoError(t, b.candidates[former.who].Resume())
				_, before = b.next(former.who, "steps down")
			}
			if fate.name == "cut off" {
				// It may say so a moment after the next one has the lock. What counts is its work.
				down, ok := find(before, former.who, "steps down")
				if !ok {
					var meanwhile []said
					down, meanwhile = b.next(former.who, "steps down")
					before = append(before, meanwhile...)
				}
				require.Less(t, after(down.at, struck), leaderTTL+10*time.Second)
			}
			for _, l := range before {
				require.False(t, l.who == former.who && l.what == "works" &&
					after(l.at, next.at) > 0, "two leaders: %v", before)
			}
		})
	}
}

func find(lines []said, who, what string) (said, bool) {
	for _, l := range lines {
		if l.who == who && strings.HasPrefix(l.what, what) {
			return l, true
		}
	}
	return said{}, false
}
