package acceptance_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/redistest"
)

// ailment is something that makes a server answer scripts with errors.
type ailment struct {
	code         string // what the error begins with
	strike, cure func(t *testing.T, s *redistest.Server)

	// what the server can still do for a lock that is held
	extends, inspects bool
	release           error
}

var ailments = []ailment{
	{
		code: "READONLY", inspects: true, release: redlock.ErrNoQuorum,
		// nobody there
		strike: func(t *testing.T, s *redistest.Server) { s.Do(t, "replicaof", "127.0.0.1", "1") },
		cure:   func(t *testing.T, s *redistest.Server) { s.Do(t, "replicaof", "no", "one") },
	},
	{
		code: "NOREPLICAS", inspects: true, release: redlock.ErrNoQuorum,
		strike: func(t *testing.T, s *redistest.Server) {
			s.Do(t, "config", "set", "min-replicas-to-write", 1)
		},
		cure: func(t *testing.T, s *redistest.Server) {
			s.Do(t, "config", "set", "min-replicas-to-write", 0)
		},
	},
	{
		code: "MISCONF", inspects: true, release: redlock.ErrNoQuorum,
		strike: failToSave,
		cure: func(t *testing.T, s *redistest.Server) {
			s.Do(t, "config", "set", "stop-writes-on-bgsave-error", "no")
		},
	},
	{
		code: "OOM", extends: true, inspects: true, // none of them needs memory
		strike: func(t *testing.T, s *redistest.Server) {
			s.Do(t, "config", "set", "maxmemory", 1)
		},
		cure: func(t *testing.T, s *redistest.Server) { s.Do(t, "config", "set", "maxmemory", 0) },
	},
	{
		code: "NOPERM", release: redlock.ErrNoQuorum,
		strike: denyAllScripts,
		cure:   allowScripts,
	},
	{
		// it is not there any more, and what is there is not ours
		code: "WRONGTYPE", release: redlock.ErrLost,
		strike: func(t *testing.T, s *redistest.Server) {
			for _, r := range []string{"held", "free", "a", "b"} {
				s.Do(t, "del", lockKey(r))
				s.Do(t, "rpush", lockKey(r), "x")
			}
		},
		cure: func(t *testing.T, s *redistest.Server) {
			for _, r := range []string{"held", "free", "a", "b"} {
				require.Equal(t, "list", s.Do(t, "type", lockKey(r)), "not ours to touch")
				s.Do(t, "del", lockKey(r))
			}
		},
	},
}

// failToSave makes a server refuse writes because it cannot save what it has: where its dump should
// go is a directory.
func failToSave(t *testing.T, s *redistest.Server) {
	require.NoError(t, os.Mkdir(filepath.Join(s.Dir(), "dump.rdb"), 0o755))
	s.Do(t, "config", "set", "save", "3600 1000000")
	s.Do(t, "bgsave")
	eventually(t, func() bool {
		return strings.Contains(s.Do(t, "info", "persistence").(string),
			"rdb_last_bgsave_status:err")
	}, "a dump was saved over a directory")
}

// Row 19: a quorum of the nodes answers with errors.
func TestErrorRepliesFromAQuorumAreAnOutage(t *testing.T) {
	noLeak(t)
	for _, a := range ailments {
		runAlongside(t, a.code, func(t *testing.T) {
			ctx := context.Background()
			servers, clients := masters(t, 3)
			l := open(t, clients, patient) // the client tries again, which takes it a while
			h := heldEverywhere(t, l, servers, "held")
			a.strike(t, servers[0])
			a.strike(t, servers[1])

			check := func(err error) {
				t.Helper()
				var short *redlock.QuorumError
				require.ErrorAs(t, err, &short)
				requireOnly(t, err, redlock.ErrNoQuorum)
				said := map[int]string{}
				for _, n := range short.Nodes {
					said[n.Node] = n.Err.Error()
				}
				for i := range 2 {
					require.True(t, strings.HasPrefix(said[i], a.code), "node %d said %q", i,
						said[i])
				}
			}

			_, err := l.TryAcquire(ctx, "free")
			check(err)
			_, err = l.TryAcquireMulti(ctx, []string{"a", "b"})
			check(err)
			if a.code != "WRONGTYPE" {
				noKeysBut(t, servers, "held")
			}

			if err = h.Extend(ctx, time.Minute); a.extends {
				require.NoError(t, err)
			} else {
				check(err)
			}
			require.NoError(t, h.Err(), "an error is no loss")
			if locked, err := l.IsLocked(ctx, "held"); a.inspects {
				require.NoError(t, err)
				require.True(t, locked)
			} else {
				check(err)
			}
			require.ErrorIs(t, h.Release(ctx), a.release)

			a.cure(t, servers[0])
			a.cure(t, servers[1])
			noKeys(t, servers)
			h, err = l.TryAcquire(ctx, "held")
			require.NoError(t, err)
			require.NoError(t, h.Release(ctx))
			noKeys(t, servers)
		})
	}
}

// Row 19: one node of three answers with errors.
func TestErrorRepliesFromAMinorityDoNotMatter(t *testing.T) {
	for _, a := range ailments {
		t.Run(a.code, func(t *testing.T) {
			ctx := context.Background()
			servers, clients := masters(t, 3)
			mine, theirs := open(t, clients, patient), open(t, clients, patient)
			held := heldEverywhere(t, mine, servers, "held")
			a.strike(t, servers[0])

			require.NoError(t, held.Extend(ctx, time.Minute))
			require.NoError(t, held.Extend(ctx, 20*time.Second))
			_, err := theirs.TryAcquire(ctx, "held")
			require.ErrorIs(t, err, redlock.ErrHeld)
			locked, err := theirs.IsLocked(ctx, "held")
			require.NoError(t, err)
			require.True(t, locked)
			require.NoError(t, held.Release(ctx))
			locked, err = theirs.IsLocked(ctx, "held")
			require.NoError(t, err)
			require.False(t, locked)

			h, err := theirs.TryAcquire(ctx, "free")
			require.NoError(t, err)
			adopted, err := mine.Adopt(ctx, []string{"free"}, h.Token())
			require.NoError(t, err)
			require.NoError(t, adopted.Release(ctx))
			require.NoError(t, h.Release(ctx)) // and the former owner forgets about it
			h, err = theirs.AcquireMulti(ctx, []string{"a", "b"})
			require.NoError(t, err)
			require.NoError(t, h.Extend(ctx, time.Minute))
			require.NoError(t, h.Release(ctx))

			a.cure(t, servers[0])
			noKeys(t, servers)
		})
	}
}

// Row 19: the nodes forget the scripts, at any time.
func TestForgottenScriptsAreSentAgain(t *testing.T) {
	servers, clients := masters(t, 3)
	mine, theirs := open(t, clients), open(t, clients)
	flushed := func(call func() error) func() error {
		return func() error {
			for _, s := range servers {
				s.Do(t, "script", "flush")
			}
			return call()
		}
	}
	ctx := context.Background()
	var h *redlock.Handle
	acquired := func(got *redlock.Handle, err error) error { h = got; return err }
	for i, call := range []func() error{
		func() error { return acquired(mine.TryAcquire(ctx, "a")) },
		func() error { return h.Extend(ctx, time.Minute) },
		func() error { return h.Extend(ctx, 10*time.Second) },
		func() error {
			takenEverywhere(t, h, servers...) // a later number would be nobody's to delete
			return acquired(theirs.Adopt(ctx, []string{"a"}, h.Token()))
		},
		func() error { _, err := theirs.IsLocked(ctx, "a"); return err },
		func() error { return h.Release(ctx) },
		func() error { return mine.WaitForUnlock(ctx, "a") },
		func() error { return acquired(mine.AcquireMulti(ctx, []string{"a", "b"})) },
		func() error { return h.Release(ctx) },
	} {
		require.NoError(t, flushed(call)(), "call %d", i)
	}
	noKeys(t, servers)

	// Contention and loss are told apart from it too.
	h, err := theirs.TryAcquire(ctx, "a")
	require.NoError(t, err)
	err = flushed(func() error { _, err := mine.TryAcquire(ctx, "a"); return err })()
	require.ErrorIs(t, err, redlock.ErrHeld)
	takeFor(t, time.Minute, "a", servers...)
	require.ErrorIs(t, flushed(func() error { return h.Extend(ctx, time.Minute) })(),
		redlock.ErrLost)
}

// Row 19: nodes that are back from a restart and still load their data.
func TestNodesThatLoadTheirDataHaveNoVote(t *testing.T) {
	ctx := context.Background()
	noLeak(t)
	// Each key takes 20 ms to load, and after each the server looks for requests.
	servers := redistest.StartN(t, 4,
		redistest.WithConfig("key-load-delay", "20000"),
		redistest.WithConfig("rdbcompression", "no"),
		redistest.WithConfig("loading-process-events-interval-bytes", "1024"))
	clients := redistest.Clients(t, servers)
	// nodes 0 and 1 of these will load
	most := open(t, clients[:3], patient)
	// and node 0 of these
	few := open(t, []*redis.Client{clients[0], clients[2], clients[3]}, patient)

	h := heldEverywhere(t, most, servers[:3], "a")
	var restarted sync.WaitGroup
	for _, s := range servers[:2] {
		for i := range 400 {
			s.Do(t, "set", fmt.Sprintf("data:%d", i), strings.Repeat("x", 2000))
		}
		s.Do(t, "save")
		restarted.Add(1)
		go func() {
			defer restarted.Done()
			if err := s.Relaunch(); err != nil { // waits until all is loaded
				t.Error(err)
			}
		}()
	}
	for _, s := range servers[:2] {
		eventually(t, func() bool { return say(s.Addr(), "PING") == "LOADING" }, "does not load")
	}

	_, err := most.TryAcquire(ctx, "b")
	requireOnly(t, err, redlock.ErrNoQuorum)
	require.ErrorContains(t, err, "LOADING")
	require.ErrorIs(t, h.Extend(ctx, time.Minute), redlock.ErrNoQuorum)
	require.NoError(t, h.Err())

	other, err := few.TryAcquire(ctx, "c")
	require.NoError(t, err)
	require.NoError(t, other.Release(ctx))
	for _, s := range servers[:2] {
		require.Equal(t, "LOADING", say(s.Addr(), "PING"), "loaded too fast to prove anything")
	}

	for _, s := range servers[:2] { // enough of that
		require.Equal(t, "OK", say(s.Addr(), "CONFIG SET key-load-delay 0"))
	}
	restarted.Wait()
	require.NoError(t, h.Extend(ctx, time.Minute), "the lock was in the dump")
	require.NoError(t, h.Release(ctx))
	for _, r := range []string{"a", "b", "c"} {
		for _, s := range servers {
			eventually(t, func() bool { return ownerOn(t, s, r) == "" }, "%s is left", r)
		}
	}
}

// say returns the first word of what a server answers to a command, without a client that would try
// again by itself.
func say(addr, command string) string {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err = conn.Write([]byte(command + "\r\n")); err != nil {
		return err.Error()
	}
	reply := make([]byte, 64)
	n, err := conn.Read(reply)
	if err != nil {
		return err.Error()
	}
	return strings.Fields(strings.TrimLeft(string(reply[:n]), "+-"))[0]
}
