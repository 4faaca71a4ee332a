package acceptance_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/redistest"
)

// userInReadme returns the user that README.md recommends: the name and the rules.
func userInReadme(t *testing.T) (name string, rules []string) {
	t.Helper()
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	line := regexp.MustCompile(`(?m)^ACL SETUSER (\S+) (.*)$`).FindSubmatch(readme)
	require.NotNil(t, line, "README.md names no user")
	return string(line[1]), strings.Fields(string(line[2]))
}

// loggedIn makes a user with the given rules on all servers and returns stock clients that log in
// as this user. The servers start without scripts and keys, and with an empty log of what they have
// denied.
func loggedIn(t *testing.T, servers []*redistest.Server, name string,
	rules []string) []*redis.Client {
	t.Helper()
	var password string
	for _, r := range rules {
		if after, ok := strings.CutPrefix(r, ">"); ok {
			password = after
		}
	}
	clients := make([]*redis.Client, len(servers))
	for i, s := range servers {
		setUser := []any{"acl", "setuser", name, "reset"}
		for _, r := range rules {
			setUser = append(setUser, r)
		}
		s.Do(t, setUser...)
		s.Do(t, "script", "flush")
		s.Do(t, "flushall")
		s.Do(t, "acl", "log", "reset")
		clients[i] = redis.NewClient(&redis.Options{Addr: s.Addr(), Username: name,
			Password: password})
		t.Cleanup(func() { require.NoError(t, clients[i].Close()) })
	}
	return clients
}

// denied returns the commands and keys that the servers have denied to somebody.
func denied(t *testing.T, servers []*redistest.Server) []string {
	t.Helper()
	var objects []string
	for _, s := range servers {
		for _, entry := range s.Do(t, "acl", "log").([]any) {
			switch fields := entry.(type) {
			case map[any]any:
				objects = append(objects, fmt.Sprint(fields["object"]))
			case []any:
				i := slices.Index(fields, any("object"))
				objects = append(objects, fmt.Sprint(fields[i+1]))
			}
		}
	}
	slices.Sort(objects)
	return slices.Compact(objects)
}

// unhurried is for whoever looks for denials: a slow answer must not look like one.
var unhurried = redlock.WithNodeTimeout(5 * time.Second)

// useEverything makes every kind of call that sends something. It returns the first error.
func useEverything(clients []*redis.Client) (err error) {
	mine, err := redlock.New(clients, unhurried)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, mine.Close()) }()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	for _, use := range []struct {
		name string
		call func(context.Context, *redlock.Locker) error
	}{
		{"acquire, be refused and release", takeAndLeave},
		{"extend", extendBothWays},
		{"several resources", takeSeveral},
		{"look", look},
		{"hand over", handOver},
		{"renew", keepRenewing},
		{"wait in line", waitInLine},
		{"be told of a deadlock", func(ctx context.Context,
			_ *redlock.Locker) error {
			return beInADeadlock(ctx, clients)
		}},
	} {
		if err := use.call(ctx, mine); err != nil {
			return fmt.Errorf("%s: %w", use.name, err)
		}
	}
	return nil
}

func takeAndLeave(ctx context.Context, l *redlock.Locker) error {
	h, err := l.TryAcquire(ctx, "a")
	if err != nil {
		return err
	}
	_, err = l.TryAcquire(ctx, "a")
	return errors.Join(unless(err, redlock.ErrHeld), h.Release(ctx))
}

func extendBothWays(ctx context.Context, l *redlock.Locker) error {
	h, err := l.TryAcquire(ctx, "a", redlock.WithTTL(20*time.Second))
	if err != nil {
		return err
	}
	return errors.Join(h.Extend(ctx, time.Minute), h.Extend(ctx, 10*time.Second), h.Release(ctx))
}

// takeSeveral includes an attempt that gets its first resource and must give it back.
func takeSeveral(ctx context.Context, l *redlock.Locker) error {
	h, err := l.AcquireMulti(ctx, []string{"b", "c"})
	if err != nil {
		return err
	}
	_, err = l.TryAcquireMulti(ctx, []string{"a", "b"})
	free, lookErr := l.IsLocked(ctx, "a")
	if free {
		lookErr = errors.Join(lookErr, errors.New("a refused attempt has kept a resource"))
	}
	return errors.Join(unless(err, redlock.ErrHeld), lookErr, h.Release(ctx))
}

func look(ctx context.Context, l *redlock.Locker) error {
	_, inspectErr := l.Inspect(ctx, "a")
	return errors.Join(inspectErr, l.WaitForUnlock(ctx, "a"))
}

// waitInLine has somebody wait for what somebody else releases when the nodes know of that.
func waitInLine(ctx context.Context, l *redlock.Locker) error {
	h, err := l.TryAcquire(ctx, "a")
	if err != nil {
		return err
	}
	waited := inBackground(func() error {
		next, err := l.Acquire(ctx, "a")
		if err != nil {
			return err
		}
		return next.Release(ctx)
	})
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-waited:
			return errors.Join(err, h.Release(ctx), errors.New("nobody waits"))
		case <-tick.C:
		}
		status, err := l.Inspect(ctx, "a")
		if err != nil || status.Waiters > 0 {
			return errors.Join(err, h.Release(ctx), <-waited)
		}
	}
}

// beInADeadlock has two Lockers wait for each other.
func beInADeadlock(ctx context.Context, clients []*redis.Client) (err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	lockers, held := make([]*redlock.Locker, 2), make([]*redlock.Handle, 2)
	for i := range held {
		lockers[i], err = redlock.New(clients, unhurried,
			redlock.WithDeadlockDetection(100*time.Millisecond),
			redlock.WithLogger(slog.New(slog.NewTextHandler(writer(func(b []byte) {
				if strings.Contains(string(b), "deadlocks may not be found") {
					cancel(errors.New(string(b)))
				}
			}), nil))))
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, lockers[i].Close()) }()
		if held[i], err = lockers[i].TryAcquire(ctx, fmt.Sprint(i),
			redlock.WithAutoRenewal(true)); err != nil {
			return err
		}
	}
	wait := func(i int) <-chan error {
		return inBackground(func() error {
			h, err := lockers[i].Acquire(held[i].Context(ctx), fmt.Sprint(1-i))
			if err == nil {
				err = h.Release(ctx)
			}
			return errors.Join(err, held[i].Release(context.Background()))
		})
	}
	one, two := wait(0), wait(1)
	return unless(errors.Join(<-one, <-two), redlock.ErrDeadlock)
}

func handOver(ctx context.Context, l *redlock.Locker) error {
	h, err := l.TryAcquire(ctx, "a")
	if err != nil {
		return err
	}
	adopted, err := l.Adopt(ctx, []string{"a"}, h.Token())
	if err != nil {
		return errors.Join(err, h.Release(ctx))
	}
	// The former handle's release goes behind its acquire, which a node may get only now.
	return errors.Join(adopted.Release(ctx), h.Release(ctx))
}

func keepRenewing(ctx context.Context, l *redlock.Locker) error {
	h, err := l.TryAcquire(ctx, "a", redlock.WithTTL(6*time.Second),
		redlock.WithAutoRenewal(true))
	if err != nil {
		return err
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for first := h.ValidUntil(); h.ValidUntil().Equal(first); {
		select {
		case <-tick.C:
		case <-h.Done():
			return h.Err()
		}
	}
	return h.Release(ctx)
}

// unless returns nil if err is what was expected.
func unless(err, expected error) error {
	if errors.Is(err, expected) {
		return nil
	}
	return fmt.Errorf("not %w, but %w", expected, err)
}

func TestUserOfTheReadmeMayDoWhatIsNeeded(t *testing.T) {
	noLeak(t)
	servers := redistest.StartN(t, 3)
	name, rules := userInReadme(t)
	for _, n := range []int{3, 1} {
		t.Run(fmt.Sprintf("%d nodes", n), func(t *testing.T) {
			require.NoError(t, useEverything(loggedIn(t, servers[:n], name, rules)))
			for _, object := range denied(t, servers) {
				// go-redis introduces itself to new servers, and does not mind if it may not.
				require.Regexp(t, "^client", object)
			}
			noKeys(t, servers[:n])
		})
	}
}

// convenient are the commands without which all still works: waiting by polls, or without knowing
// whether the dead are dead; and without hdel, what a task waited for can be read for some seconds
// longer.
var convenient = []string{"time", "publish", "subscribe", "ping", "hdel"}

func TestUserOfTheReadmeMayDoNothingBeyondWhatIsNeeded(t *testing.T) {
	noLeak(t)
	servers := redistest.StartN(t, 3)
	name, rules := userInReadme(t)
	for i, rule := range rules {
		object, isCommand := strings.CutPrefix(rule, "+")
		switch {
		case isCommand && slices.Contains(convenient, object):
			continue // it does without, if not as well
		case rule == "~lock:*":
			object = lockedKey("a")
		case rule == "~{lock:*":
			object = "{lock:a}:queue"
		case !isCommand:
			continue // no permission
		}
		t.Run("without "+rule, func(t *testing.T) {
			err := useEverything(loggedIn(t, servers, name,
				slices.Delete(slices.Clone(rules), i, i+1)))
			require.Error(t, err, "it does without")
			require.Contains(t, denied(t, servers), object)
		})
	}
}

// lockedKey is where the resource is locked under the prefix that README.md's user is made for.
func lockedKey(resource string) string { return "lock:" + resource }

func TestUserOfTheReadmeMayUseFencing(t *testing.T) {
	noLeak(t)
	servers := redistest.StartN(t, 3)
	name, rules := userInReadme(t)
	l := open(t, loggedIn(t, servers, name, rules), redlock.WithFencing(),
		unhurried)
	ctx := context.Background()
	for _, resources := range [][]string{{"a"}, {"a", "{u}b"}} {
		h, err := l.TryAcquireMulti(ctx, resources)
		require.NoError(t, err)
		require.NoError(t, h.Extend(ctx, time.Minute))
		require.NoError(t, h.Release(ctx))
		h, err = l.AcquireMulti(ctx, resources)
		require.NoError(t, err)
		_, err = l.Inspect(ctx, resources[0])
		require.NoError(t, err)
		require.NoError(t, h.Release(ctx))
	}
	require.NoError(t, l.Close())
	for _, object := range denied(t, servers) {
		require.Regexp(t, "^client", object)
	}
}
