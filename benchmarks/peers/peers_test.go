package peers

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/bsm/redislock"
	"github.com/go-redsync/redsync/v4"
	redsyncredis "github.com/go-redsync/redsync/v4/redis"
	"github.com/go-redsync/redsync/v4/redis/goredis/v9"
	"github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"
	"github.com/redis/rueidis/rueidislock"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/redistest"
)

const (
	ttl     = time.Minute      // no lock of these tests expires by itself
	patient = 20 * time.Second // until when something must have happened, on a busy machine too
)

// errTaken is any library's word that somebody else has the lock.
var errTaken = errors.New("taken")

// library tries to lock a name: the answer is a lock, errTaken, or something that no test expects.
type library struct {
	name string
	try  func(ctx context.Context, name string) (lock, error)
}

type lock interface {
	// Release returns nil if it has deleted its own key.
	Release(ctx context.Context) error
}

func ours(l *redlock.Locker) library {
	return library{"redlock", func(ctx context.Context, name string) (lock, error) {
		h, err := l.TryAcquire(ctx, name, redlock.WithTTL(ttl))
		if errors.Is(err, redlock.ErrHeld) {
			return nil, errTaken
		}
		return h, err
	}}
}

func redsyncOver(rs *redsync.Redsync) library {
	return library{"redsync", func(ctx context.Context, name string) (lock, error) {
		m := rs.NewMutex(name, redsync.WithExpiry(ttl))
		err := m.TryLockContext(ctx)
		var taken *redsync.ErrTaken
		var node *redsync.ErrNodeTaken
		if errors.As(err, &taken) || errors.As(err, &node) {
			return nil, errTaken
		}
		return (*mutex)(m), err
	}}
}

type mutex redsync.Mutex

func (m *mutex) Release(ctx context.Context) error {
	ok, err := (*redsync.Mutex)(m).UnlockContext(ctx)
	if err == nil && !ok {
		return errors.New("not unlocked")
	}
	return err
}

func redislockOver(c *redislock.Client) library {
	return library{"redislock", func(ctx context.Context, name string) (lock, error) {
		l, err := c.Obtain(ctx, name, ttl, nil)
		if errors.Is(err, redislock.ErrNotObtained) {
			return nil, errTaken
		}
		return l, err
	}}
}

// openRedsync is redsync over stock clients of the servers.
func openRedsync(clients []*redis.Client) *redsync.Redsync {
	var pools []redsyncredis.Pool
	for _, c := range clients {
		pools = append(pools, goredis.NewPool(c))
	}
	return redsync.New(pools...)
}

func openRueidislock(t *testing.T, addr string, majority int32) rueidislock.Locker {
	t.Helper()
	l, err := rueidislock.NewLocker(rueidislock.LockerOption{
		ClientOption: rueidis.ClientOption{InitAddress: []string{addr}},
		KeyMajority:  majority, KeyValidity: ttl, TryNextAfter: time.Second,
	})
	noError(t, err)
	t.Cleanup(l.Close)
	return l
}

func openRedlock(t *testing.T, clients []*redis.Client, opts ...redlock.Option) *redlock.Locker {
	t.Helper()
	l, err := redlock.New(clients, opts...)
	noError(t, err)
	t.Cleanup(func() { noError(t, l.Close()) })
	return l
}

func start(t *testing.T, n int) ([]*redistest.Server, []*redis.Client) {
	t.Helper()
	servers := redistest.StartN(t, n)
	return servers, redistest.Clients(t, servers)
}

// valuesOf returns what stands under a key on each server, "" for nothing.
func valuesOf(t *testing.T, clients []*redis.Client, key string) []string {
	t.Helper()
	values := make([]string, len(clients))
	for i, c := range clients {
		v, err := c.Get(t.Context(), key).Result()
		if !errors.Is(err, redis.Nil) {
			noError(t, err)
		}
		values[i] = v
	}
	return values
}

// everywhere waits until a key stands on all servers, and returns its values: a lock is had when a
// quorum has granted it.
func everywhere(t *testing.T, clients []*redis.Client, key string) (values []string) {
	t.Helper()
	eventually(t, key+" on all servers", func() bool {
		values = valuesOf(t, clients, key)
		return !slices.Contains(values, "")
	})
	return values
}

// eventually waits until done, by looking again and again.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for begin := time.Now(); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Since(begin) > patient {
			t.Fatalf("in vain waited for: %s", what)
		}
	}
}

// within returns what comes from a channel.
func within[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patient):
		t.Fatalf("in vain waited for: %s", what)
		panic("not reached")
	}
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantError(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("the error should be %q, and is: %v", want, err)
	}
}
