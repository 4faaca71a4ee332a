package acceptance_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/redistest"
)

// secretOf returns the random part of a token: what nobody but the owner may know.
func secretOf(token string) string {
	if _, after, ok := strings.Cut(token, "~"); ok {
		token = after
	}
	secret, _, _ := strings.Cut(token, ":")
	return secret
}

func TestHandleNeverShowsItsToken(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 1)
	l := open(t, clients, redlock.WithOwner("the owner"))
	end := map[string]func(h *redlock.Handle){
		"held":     func(*redlock.Handle) {},
		"shorter":  func(h *redlock.Handle) { require.NoError(t, h.Extend(ctx, 10*time.Second)) },
		"released": func(h *redlock.Handle) { require.NoError(t, h.Release(ctx)) },
		"lost": func(h *redlock.Handle) {
			uproot(t, "a", servers...)
			require.ErrorIs(t, h.Extend(ctx, time.Minute), redlock.ErrLost)
		},
	}
	for state, end := range end {
		t.Run(state, func(t *testing.T) {
			h, err := l.TryAcquire(ctx, "a")
			require.NoError(t, err)
			end(h)
			secret := secretOf(h.Token())
			require.Len(t, secret, 22)
			type box struct{ h *redlock.Handle }
			holder := struct{ H *redlock.Handle }{h}
			for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
				for _, value := range []any{
					h, holder, &holder, []*redlock.Handle{h}, map[string]*redlock.Handle{"h": h},
				} {
					shown := fmt.Sprintf(format, value)
					require.NotContains(t, shown, secret, format)
					require.NotContains(t, shown, fmt.Sprintf("%x", secret), format)
				}
			}
			for _, format := range []string{"%v", "%+v", "%#v"} {
				require.NotContains(t, fmt.Sprintf(format, box{h}), secret, format)
				require.NotContains(t, fmt.Sprintf(format, l), secret, format)
			}
			require.Contains(t, h.String(), `"a"`)
			require.Equal(t, h.String()[:12], fmt.Sprintf("%#v", h)[:12])
			require.NotContains(t, fmt.Sprint(h.Context(ctx)), secret)
			require.NotContains(t, fmt.Sprintf("%+v", h.Context(ctx)), secret)
			for _, handler := range []func(b *bytes.Buffer) slog.Handler{
				func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
				func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
			} {
				var b bytes.Buffer
				slog.New(handler(&b)).Info("locked", "handle", h, "holder", holder,
					"list", []*redlock.Handle{h}, "locker", "x")
				require.NotContains(t, b.String(), secret)
				require.Contains(t, b.String(), "handle")
			}
			text, err := json.Marshal(holder)
			require.NoError(t, err)
			require.NotContains(t, string(text), secret)
			_ = h.Release(ctx)
		})
	}
}

// A server quotes the arguments of a command that it does not know.
func TestTokenIsNotSeenWhereAServerQuotesIt(t *testing.T) {
	_, clients := masters(t, 2)
	deaf := redistest.Start(t, redistest.WithConfig("rename-command", `evalsha ""`)).Client(t)
	logged, observed := make(chan string, 100), make(chan string, 100)
	watcher := &recorder{then: func(e redlock.Event) {
		if e, failed := e.(redlock.NodeState); failed && e.Err != nil {
			observed <- e.Err.Error()
		}
	}}
	l := open(t, append(clients, deaf), redlock.WithObserver(watcher),
		loggingTo(func(r slog.Record) {
			r.Attrs(func(a slog.Attr) bool {
				if a.Key == "error" {
					logged <- a.Value.String()
				}
				return true
			})
		}))
	h, err := l.TryAcquire(context.Background(), "r")
	require.NoError(t, err)
	for _, said := range []<-chan string{logged, observed} {
		text := outcome(t, said, "what the server said")
		require.Contains(t, text, "unknown command")
		require.NotContains(t, text, secretOf(h.Token()))
	}
	require.NoError(t, h.Release(context.Background()))
}

// What stands where a fencing counter should be is told without the token beside it.
func TestTokenIsNotSeenBesideAnOddCounter(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	logged := make(chan string, 100)
	l := open(t, clients, redlock.WithFencing(), loggingTo(func(r slog.Record) {
		r.Attrs(func(a slog.Attr) bool {
			logged <- fmt.Sprint(a.Value)
			return true
		})
	}))
	h, err := l.TryAcquire(ctx, "a")
	require.NoError(t, err)
	takenEverywhere(t, h, servers...)
	for _, s := range servers {
		s.Do(t, "set", "{lock:a}:fence", "odd")
	}
	_, err = l.Inspect(ctx, "a")
	require.ErrorContains(t, err, `the fencing counter of "a" is not a number`)
	require.NotContains(t, err.Error(), secretOf(h.Token()))
	for said := ""; !strings.Contains(said, "fencing counter"); {
		said = outcome(t, logged, "what the log says of the node")
		require.NotContains(t, said, secretOf(h.Token()))
	}
}

// A storm of everything that can go wrong: nothing that is logged or returned has a token in it.
func TestErrorsAndLogsNeverContainATokenInAStorm(t *testing.T) {
	ctx := context.Background()
	servers, proxies, clients := proxied(t, 3)
	var mu sync.Mutex
	var said strings.Builder
	secrets := make(map[string]bool)
	tell := func(h *redlock.Handle, err error) {
		mu.Lock()
		defer mu.Unlock()
		if h != nil {
			secrets[secretOf(h.Token())] = true
		}
		if err != nil {
			fmt.Fprintf(&said, "%v\n%+v\n%#v\n", err, err, err)
		}
	}
	logger := slog.New(slog.NewTextHandler(writer(func(b []byte) {
		mu.Lock()
		defer mu.Unlock()
		said.Write(b)
	}), &slog.HandlerOptions{Level: slog.LevelDebug}))

	stop := make(chan struct{})
	var users []func() error
	for i := range 6 {
		l := open(t, clients, redlock.WithLogger(logger), redlock.WithTTL(500*time.Millisecond),
			redlock.WithOwner(fmt.Sprint("user ", i)))
		users = append(users, func() error {
			shared := fmt.Sprint("shared ", i/2)
			long, err := l.TryAcquire(ctx, fmt.Sprint("long ", i), redlock.WithAutoRenewal(true))
			tell(long, err)
			for n := 0; !isClosed(stop); n++ {
				h, err := l.TryAcquireMulti(ctx, []string{shared, fmt.Sprint(i, n%3)},
					redlock.WithAutoRenewal(n%2 == 0))
				tell(h, err)
				if err != nil {
					tell(nil, onlyError(l.Inspect(ctx, shared)))
					tell(nil, onlyError(l.Adopt(ctx, []string{shared}, "x:y")))
					continue
				}
				tell(h, h.Extend(ctx, 2*time.Second))
				tell(h, h.Extend(ctx, 300*time.Millisecond))
				if n%5 == 0 {
					uproot(t, shared, servers[n%3])
				}
				if n%14 == 7 { // not renewed
					<-h.Done()
				}
				tell(h, h.Release(ctx))
				tell(h, h.Extend(ctx, time.Second))
			}
			return nil
		})
	}
	storm := inBackground(func() error { return together(users...) })
	must := []string{"lock lost", "held by", "NOPERM", "renew"} // have happened
	enough := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(secrets) > 20 && !slices.ContainsFunc(must,
			func(what string) bool { return !strings.Contains(said.String(), what) })
	}
	for n := 0; n < 40 || n < 400 && !enough(); n++ {
		p, s := proxies[n%3], servers[(n+1)%3]
		p.HoldRequests(true)
		denyAllScripts(t, s)
		<-time.After(40 * time.Millisecond)
		p.HoldRequests(false)
		allowScripts(t, s)
		p.Cut()
		if n%10 == 9 {
			for _, s := range servers {
				denyAllScripts(t, s)
			}
			<-time.After(200 * time.Millisecond)
			for _, s := range servers {
				uproot(t, "shared 0", s)
				allowScripts(t, s)
			}
		}
	}
	close(stop)
	select {
	case err := <-storm:
		require.NoError(t, err)
	case <-time.After(20 * time.Second):
		require.Fail(t, "the storm does not end")
	}
	mu.Lock()
	defer mu.Unlock()
	require.Greater(t, len(secrets), 20)
	for _, what := range must {
		require.True(t, strings.Contains(said.String(), what), "the storm is too weak: no %q", what)
	}
	for secret := range secrets {
		require.NotContains(t, said.String(), secret)
	}
}

// writer is an io.Writer.
type writer func(b []byte)

func (w writer) Write(b []byte) (int, error) { w(b); return len(b), nil }

func TestOwnerOfOneCallIsShownToOthers(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	l, other := open(t, clients, redlock.WithOwner("the process")), open(t, clients)
	h, err := l.TryAcquire(ctx, "a", redlock.WithOwner("request 7"))
	require.NoError(t, err)
	takenEverywhere(t, h, servers...)
	shorter := func(t *testing.T) {
		require.NoError(t, h.Extend(ctx, 10*time.Second)) // puts a number in front
		eventually(t, func() bool { return slicesAllEqual(ownersOn(t, servers, "a")) },
			"not everywhere")
	}
	for _, prepare := range []func(t *testing.T){func(*testing.T) {}, shorter} {
		prepare(t)
		status, err := other.Inspect(ctx, "a")
		require.NoError(t, err)
		require.Equal(t, "request 7", status.Owner)
		_, err = other.TryAcquire(ctx, "a")
		require.ErrorContains(t, err, `"request 7"`)
		var held *redlock.HeldError
		require.ErrorAs(t, err, &held)
		require.Equal(t, "request 7", held.Owner)
		require.NotContains(t, err.Error(), secretOf(h.Token()))
	}
	require.NoError(t, h.Release(ctx))

	plain, err := l.TryAcquire(ctx, "a")
	require.NoError(t, err)
	_, err = other.TryAcquire(ctx, "a")
	require.ErrorContains(t, err, `"the process"`, "the next call has the Locker's again")
	require.NoError(t, plain.Release(ctx))

	for _, call := range []func(o redlock.AcquireOption) error{
		func(o redlock.AcquireOption) error { return onlyError(l.TryAcquire(ctx, "a", o)) },
		func(o redlock.AcquireOption) error { return onlyError(l.Acquire(ctx, "a", o)) },
		func(o redlock.AcquireOption) error { return l.TryDo(ctx, "a", nothingToDo, o) },
	} {
		err := call(redlock.WithOwner(strings.Repeat("x", 257)))
		require.ErrorContains(t, err, "257")
		require.ErrorContains(t, err, "owner")
	}
	noKeys(t, servers)
	longest := strings.Repeat("\x00", 256)
	h, err = l.TryAcquire(ctx, "a", redlock.WithOwner(longest))
	require.NoError(t, err)
	status, err := other.Inspect(ctx, "a")
	require.NoError(t, err)
	require.Equal(t, longest, status.Owner)
	require.NoError(t, h.Release(ctx))
}
