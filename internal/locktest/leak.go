package locktest

import (
	"flag"
	"os"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

// ClientLeaks returns what a leak check after a test that stops servers has to ignore: the
// goroutines that a closed go-redis client leaves behind. Each ends by itself.
//   - After PoolSize refused dials one probes the server, and notices Close up to a second late.
//   - Recent versions dial in the background, up to five times with pauses, whether or not
//     anybody still wants the connection.
func ClientLeaks() []goleak.Option {
	const pool = "github.com/redis/go-redis/v9/internal/pool.(*ConnPool)."
	return []goleak.Option{
		goleak.IgnoreAnyFunction(pool + "tryDial"),
		goleak.IgnoreAnyFunction(pool + "queuedNewConn.func2"),
	}
}

// Main runs the tests of a package and fails if goroutines are left after the last one. It is for
// TestMain.
func Main(m *testing.M) {
	if err := flag.Set("test.parallel", "4"); err != nil {
		// the tests that run alongside each other wait most of the time
		panic(err)
	}
	code := m.Run()
	if err := goleak.Find(ClientLeaks()...); err != nil && code == 0 {
		println(err.Error())
		code = 1
	}
	os.Exit(code)
}

// NoLeak fails the test if goroutines are left after everything registered later with t.Cleanup has
// run.
func NoLeak(t *testing.T) {
	t.Helper()
	if !alongside(t.Name()) {
		t.Cleanup(func() { goleak.VerifyNone(t, ClientLeaks()...) })
	}
}

// companions has the names of tests that run alongside others, whose goroutines they cannot tell
// from their own.
var companions sync.Map

// alongside reports whether the test, or one that it is part of, runs alongside others.
func alongside(name string) bool {
	_, ok := companions.Load(name)
	i := strings.LastIndexByte(name, '/')
	return ok || i > 0 && alongside(name[:i])
}

// RunAlongside is t.Run for the cases of a test that wait most of the time: they wait together.
// What they leak is the whole test's, which calls NoLeak before.
func RunAlongside(t *testing.T, name string, test func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		companions.Store(t.Name(), nil)
		t.Parallel()
		test(t)
	})
}
