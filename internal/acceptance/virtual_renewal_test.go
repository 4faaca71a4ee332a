//go:build go1.25

package acceptance_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
)

func TestVirtualRenewalComesWithEveryThirdOfTheTTL(t *testing.T) {
	for _, ttl := range []time.Duration{
		30 * time.Second, time.Second, 100 * time.Millisecond, 3 * time.Hour,
	} {
		t.Run(ttl.String(), func(t *testing.T) {
			virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
				const renewals = 10
				ctx := context.Background()
				l := open(t, clientsOf(nodes), redlock.WithTTL(ttl))
				start := time.Now()
				h, err := l.TryAcquire(ctx, "a", redlock.WithAutoRenewal(true))
				require.NoError(t, err)
				third := ttl - ttl*2/3
				time.Sleep(renewals * third)
				synctest.Wait()

				var want []time.Duration
				for i := range renewals {
					want = append(want, time.Duration(i+1)*third)
				}
				for _, n := range nodes {
					require.Equal(t, want, n.extensions(start))
				}
				require.Equal(t, renewals*third+ttl-ttl/100-2*time.Millisecond,
					h.ValidUntil().Sub(start))
				require.NoError(t, h.Release(ctx))
				time.Sleep(ttl)
				require.Len(t, nodes[0].sent("keep"), renewals, "no renewal after the release")
			})
		})
	}
}

func TestVirtualRenewalForAnHour(t *testing.T) {
	virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
		ctx := context.Background()
		l := open(t, clientsOf(nodes))
		h, err := l.TryAcquire(ctx, "a", redlock.WithAutoRenewal(true))
		require.NoError(t, err)
		done := h.Done()
		for range 60 {
			time.Sleep(time.Minute)
			require.NoError(t, h.Err())
			for _, n := range nodes {
				require.Equal(t, h.Token(), n.owner("lock:a"))
			}
		}
		select {
		case <-done:
			require.Fail(t, "done while it is held")
		default:
		}
		synctest.Wait() // a renewal is due at this very moment
		require.NoError(t, h.Release(ctx))
		synctest.Wait() // the last node
		for _, n := range nodes {
			require.Len(t, n.sent("keep"), 360)
			require.Empty(t, n.owner("lock:a"))
		}
	})
}

func TestVirtualRenewalNeverCarriesTheLockPastTheLongestHold(t *testing.T) {
	for _, hold := range []time.Duration{
		30 * time.Second, 31 * time.Second, 45 * time.Second, 5 * time.Minute, 5*time.Minute + 1,
	} {
		t.Run(hold.String(), func(t *testing.T) {
			virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
				l := open(t, clientsOf(nodes), redlock.WithMaxHold(hold))
				start := time.Now()
				h, err := l.TryAcquire(context.Background(), "a", redlock.WithAutoRenewal(true))
				require.NoError(t, err)
				<-h.Done()
				require.Equal(t, redlock.ErrLost, h.Err())
				require.LessOrEqual(t, time.Since(start), hold)
				require.Greater(t, time.Since(start), hold-time.Second,
					"it is used up, less the drift")

				time.Sleep(time.Until(start.Add(hold).Add(time.Millisecond)))
				for _, n := range nodes {
					require.Empty(t, n.owner("lock:a"), "the keys do not outlive the hold")
					extensions := n.extensions(start)
					if len(extensions) > 0 {
						require.Less(t, extensions[len(extensions)-1], hold)
					}
				}
			})
		})
	}
}

// A renewal never shortens, nor does it take back a shortening, and it comes before the end of the
// validity however long the lease is and however much of it the drift takes.
func TestVirtualRenewalGoesOnAfterAnExtension(t *testing.T) {
	for _, tt := range []struct {
		extend time.Duration
		first  time.Duration // when the first renewal comes at the earliest, after the extension
		every  time.Duration // and those behind it
	}{
		{6 * time.Second, 2 * time.Second, 2 * time.Second},
		{30 * time.Second, 10 * time.Second, 10 * time.Second},
		{5 * time.Minute, 4 * time.Minute, 10 * time.Second},
		{time.Hour, 59 * time.Minute, 10 * time.Second},
		{100 * time.Hour, 98 * time.Hour, 10 * time.Second},
	} {
		t.Run(tt.extend.String(), func(t *testing.T) {
			virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
				ctx := context.Background()
				l := open(t, clientsOf(nodes))
				h, err := l.TryAcquire(ctx, "a", redlock.WithAutoRenewal(true))
				require.NoError(t, err)
				time.Sleep(5 * time.Second)
				start := time.Now()
				require.NoError(t, h.Extend(ctx, tt.extend))
				time.Sleep(tt.extend + 10*tt.every)
				require.NoError(t, h.Err())

				renewals := nodes[0].extensions(start)[1:]
				require.GreaterOrEqual(t, renewals[0], tt.first)
				for i := 1; i < len(renewals); i++ {
					require.Equal(t, tt.every, renewals[i]-renewals[i-1])
				}
				require.NoError(t, h.Release(ctx))
			})
		})
	}
}

// Row 12 of the failure table: errors from a quorum.
func TestVirtualRenewalIsRetriedUntilTheLeaseEndsAndNotLonger(t *testing.T) {
	for name, fault := range map[string]func(*virtualNode){
		"errors": func(n *virtualNode) { n.fail("ERR out of order") },
		"hung":   (*virtualNode).hang,
	} {
		t.Run(name, func(t *testing.T) {
			virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
				l := open(t, clientsOf(nodes))
				h, err := l.TryAcquire(context.Background(), "a", redlock.WithAutoRenewal(true))
				require.NoError(t, err)
				time.Sleep(time.Minute + time.Second)
				until := h.ValidUntil()
				fault(nodes[0])
				fault(nodes[1])

				<-h.Done()
				require.Equal(t, until, time.Now())
				require.Equal(t, redlock.ErrLost, h.Err())
				retries := 0
				for _, at := range nodes[2].sent("keep") {
					if at.After(until.Add(-20 * time.Second)) {
						retries++
					}
				}
				require.Greater(t, retries, 5)
				require.Less(t, retries, 25)
				for _, n := range nodes {
					n.recover()
				}
			})
		})
	}
}

func TestVirtualRenewalRecoversWithTheNodes(t *testing.T) {
	virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
		ctx := context.Background()
		l := open(t, clientsOf(nodes))
		h, err := l.TryAcquire(ctx, "a", redlock.WithAutoRenewal(true))
		require.NoError(t, err)
		for range 20 {
			for _, n := range nodes[:2] {
				n.fail("LOADING Redis is loading the dataset in memory")
			}
			// a retry comes each second
			time.Sleep(time.Until(h.ValidUntil()) - 1500*time.Millisecond)
			for _, n := range nodes[:2] {
				n.fail("")
			}
			time.Sleep(1400 * time.Millisecond)
			require.NoError(t, h.Err())
			require.Greater(t, time.Until(h.ValidUntil()), 25*time.Second)
		}
		require.NoError(t, h.Release(ctx))
	})
}

func TestVirtualDoRenewsUnlessToldNotTo(t *testing.T) {
	never, always := redlock.WithAutoRenewal(false), redlock.WithAutoRenewal(true)
	for name, tt := range map[string]struct {
		locker []redlock.Option
		call   []redlock.AcquireOption
		renews bool
	}{
		"by default":          {nil, nil, true},
		"the Locker says no":  {[]redlock.Option{never}, nil, false},
		"the Locker says yes": {[]redlock.Option{always}, nil, true},
		"the call says no":    {nil, []redlock.AcquireOption{never}, false},
		"the call says no, Locker yes": {[]redlock.Option{always}, []redlock.AcquireOption{never},
			false},
		"the call says yes, Locker no": {[]redlock.Option{never}, []redlock.AcquireOption{always},
			true},
		"the call says something else": {nil,
			[]redlock.AcquireOption{redlock.WithTTL(time.Minute)}, true},
		"the Locker says something else": {[]redlock.Option{redlock.WithTTL(time.Minute)}, nil,
			true},
	} {
		t.Run(name, func(t *testing.T) {
			virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
				l := open(t, clientsOf(nodes), tt.locker...)
				err := l.Do(context.Background(), "a", func(ctx context.Context) error {
					select {
					case <-ctx.Done():
						require.False(t, tt.renews)
						require.Equal(t, redlock.ErrLost, context.Cause(ctx))
					case <-time.After(time.Hour):
						require.True(t, tt.renews)
					}
					return nil
				}, tt.call...)
				if tt.renews {
					require.NoError(t, err)
				} else {
					require.ErrorIs(t, err, redlock.ErrLost)
				}
			})
		})
	}
}

// What a node has said before it got the lock again counts for nothing where a later extension has
// been won.
func TestVirtualSlowExtensionDoesNotEndALockThatALaterOneHasProved(t *testing.T) {
	virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
		ctx := context.Background()
		h, err := open(t, clientsOf(nodes)).TryAcquire(ctx, "a", redlock.WithTTL(time.Minute))
		require.NoError(t, err)
		synctest.Wait()
		for _, n := range nodes[1:] {
			require.NoError(t, n.client.Del(ctx, "lock:a").Err())
		}
		nodes[2].delayBy(200 * time.Millisecond)
		slow := inBackground(func() error { return h.Extend(ctx, 2*time.Minute) })
		time.Sleep(time.Millisecond)
		// as a late grant does
		require.NoError(t, nodes[1].client.Set(ctx, "lock:a", h.Token(), time.Minute).Err())
		require.NoError(t, h.Extend(ctx, time.Minute))
		requireOnly(t, <-slow, redlock.ErrNoQuorum)
		require.NoError(t, h.Err())

		for _, n := range nodes[1:] { // and now it is lost
			require.NoError(t, n.client.Del(ctx, "lock:a").Err())
		}
		require.ErrorIs(t, h.Extend(ctx, time.Minute), redlock.ErrLost)
		require.Equal(t, redlock.ErrLost, h.Err())
	})
}

func TestVirtualRenewalsDoNotPileUpForANodeThatHangs(t *testing.T) {
	virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
		ctx := context.Background()
		tap := tapOf(nodes[2].client)
		l, err := redlock.New(clientsOf(nodes))
		require.NoError(t, err)

		const locks = 5
		var held []*redlock.Handle
		for i := range locks {
			h, err := l.TryAcquire(ctx, fmt.Sprint("r", i), redlock.WithTTL(600*time.Millisecond),
				redlock.WithAutoRenewal(true))
			require.NoError(t, err)
			held = append(held, h)
		}
		synctest.Wait()
		hung := newGate(t)
		tap.onSend(func(string) error { hung.pass(); return nil })
		// Renewals are sent beside those that hang, on other connections, but only so many workers
		// may be stuck. There are more rounds of renewals than that.
		const workers = 2 + 8
		time.Sleep(2 * workers * 200 * time.Millisecond)
		for _, h := range held {
			require.NoError(t, h.Err(), "two nodes are enough")
		}

		// Close says for how many requests it has waited in vain.
		began := time.Now()
		err = l.Close()
		require.Less(t, time.Since(began), 9*time.Second)
		addr := nodes[2].client.Options().Addr
		_, text, found := strings.Cut(fmt.Sprint(err), "node 2 ("+addr+"): ")
		require.True(t, found, "Close took the node for healthy: %v", err)
		var unanswered int
		_, err = fmt.Sscanf(text, "%d calls", &unanswered)
		require.NoError(t, err)
		require.LessOrEqual(t, unanswered, workers*locks)
		require.Greater(t, unanswered, locks, "it is asked beside those that hang")
	})
}
