package redistest_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/redistest"
)

func TestProxyForwards(t *testing.T) {
	server := redistest.Start(t)
	client := server.Proxy(t).Client(t)
	value := string(make([]byte, 1<<20))
	require.NoError(t, client.Set(t.Context(), "key", value, 0).Err())
	require.Equal(t, value, client.Get(t.Context(), "key").Val())
}

func TestDelayAddsToEachDirection(t *testing.T) {
	const delay = 40 * time.Millisecond
	for name, tt := range map[string]struct {
		apply func(*redistest.Proxy)
		want  time.Duration
	}{
		"both":     {func(p *redistest.Proxy) { p.Delay(delay) }, 2 * delay},
		"requests": {func(p *redistest.Proxy) { p.DelayRequests(delay) }, delay},
		"replies":  {func(p *redistest.Proxy) { p.DelayReplies(delay) }, delay},
		"off":      {func(p *redistest.Proxy) { p.Delay(time.Hour); p.Delay(0) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			proxy := redistest.Start(t).Proxy(t)
			client := connected(t, proxy.Client(t))
			tt.apply(proxy)
			start := time.Now()
			require.NoError(t, client.Ping(t.Context()).Err())
			require.GreaterOrEqual(t, time.Since(start), tt.want)
		})
	}
}

func TestDelayDoesNotSerialise(t *testing.T) {
	const delay, n = 50 * time.Millisecond, 50
	proxy := redistest.Start(t).Proxy(t)
	conn, err := net.Dial("tcp", proxy.Addr())
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	proxy.Delay(delay)

	start := time.Now()
	for range n {
		_, err := fmt.Fprint(conn, "INCR n\r\n")
		require.NoError(t, err)
	}
	r := bufio.NewReader(conn)
	for i := range n {
		line, err := r.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf(":%d\r\n", i+1), line)
	}
	took := time.Since(start)
	require.GreaterOrEqual(t, took, 2*delay)
	require.Less(t, took, n*delay/2)
}

// A proxy that slept before passing on what it has read would make the next bytes
// wait for the sleep, and then for their own.
func TestDelayIsTheSameForEachRequest(t *testing.T) {
	t.Parallel()
	const delay, n = 400 * time.Millisecond, 8
	proxy := redistest.Start(t).Proxy(t)
	conn, err := net.Dial("tcp", proxy.Addr())
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	proxy.Delay(delay)
	r := bufio.NewReader(conn)

	series := func() (slowest time.Duration) {
		sent := make(chan time.Time, n)
		go func() {
			defer close(sent)
			tick := time.NewTicker(delay / 8)
			defer tick.Stop()
			for range n {
				sent <- <-tick.C
				if _, err := fmt.Fprint(conn, "PING\r\n"); err != nil {
					t.Error(err)
				}
			}
		}()
		defer func() {
			for range sent { // to the end, so that the goroutine has ended too
			}
		}()
		for at := range sent {
			_, err := r.ReadString('\n')
			require.NoError(t, err)
			took := time.Since(at)
			require.GreaterOrEqual(t, took, 2*delay)
			slowest = max(slowest, took)
		}
		return slowest
	}
	// The machine may be late with one of so many; waiting for each other's sleep
	// would make every series slow.
	var all []time.Duration
	for range 5 {
		if all = append(all, series()); all[len(all)-1] < 2*delay+delay/2 {
			return
		}
	}
	require.Fail(t, "requests wait for each other", "the slowest of each series: %v", all)
}

func TestDelayDoesNotSerialiseConnections(t *testing.T) {
	const delay, n = 50 * time.Millisecond, 50
	proxy := redistest.Start(t).Proxy(t)
	client := redis.NewClient(&redis.Options{Addr: proxy.Addr(), PoolSize: n})
	defer client.Close()
	proxy.Delay(delay)

	start := time.Now()
	var wg sync.WaitGroup
	for range n {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := client.Incr(t.Context(), "n").Err(); err != nil {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
	require.Less(t, time.Since(start), n*delay/2)
}

func TestSwallowedReply(t *testing.T) {
	server := redistest.Start(t)
	proxy := server.Proxy(t)
	client := connected(t, unrepeating(t, proxy.Addr()))

	proxy.SwallowReplies(true)
	requireTimeout(t, hasty(client).Incr(t.Context(), "n").Err())
	eventually(t, func() bool { return server.Do(t, "get", "n") == "1" }) // the request arrives

	proxy.SwallowReplies(false)
	require.EqualValues(t, 2, client.Incr(t.Context(), "n").Val())
}

func TestSwallowedRequest(t *testing.T) {
	server := redistest.Start(t)
	proxy := server.Proxy(t)
	client := connected(t, unrepeating(t, proxy.Addr()))

	proxy.SwallowRequests(true)
	requireTimeout(t, hasty(client).Incr(t.Context(), "n").Err())
	eventually(t, func() bool { return proxy.Swallowed() > 0 })
	proxy.SwallowRequests(false)
	require.EqualValues(t, 1, client.Incr(t.Context(), "n").Val(), "the first one never arrived")
}

func TestConnectionThatLostBytesStaysSilent(t *testing.T) {
	proxy := redistest.Start(t).Proxy(t)
	conn, err := net.Dial("tcp", proxy.Addr())
	require.NoError(t, err)
	defer conn.Close()

	lose := func(part string) {
		before := proxy.Swallowed()
		_, err := fmt.Fprint(conn, part)
		require.NoError(t, err)
		eventually(t, func() bool { return proxy.Swallowed() == before+len(part) })
		requireSilence(t, conn)
	}
	proxy.SwallowRequests(true)
	lose("*2\r\n$3\r\nGET\r\n")
	proxy.SwallowRequests(false)
	lose("$1\r\nk\r\nPING\r\n")
}

func requireSilence(t *testing.T, conn net.Conn) {
	t.Helper()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	_, err := conn.Read(make([]byte, 1))
	requireTimeout(t, err)
}

func TestServerDoesNotNoticeVanishedClient(t *testing.T) {
	server := redistest.Start(t)
	proxy := server.Proxy(t)
	client := connected(t, proxy.Client(t))
	sub := client.Subscribe(t.Context(), "news")
	_, err := sub.Receive(t.Context())
	require.NoError(t, err)
	subscribed := func() bool { return len(server.Do(t, "pubsub", "channels").([]any)) == 1 }
	require.True(t, subscribed())

	proxy.SwallowRequests(true)
	require.NoError(t, sub.Close())
	require.NoError(t, client.Close())
	stays(t, subscribed)
	proxy.Cut()
	eventually(t, func() bool { return !subscribed() })
}

func TestHeldRequestRunsAfterTheClientHasClosed(t *testing.T) {
	server := redistest.Start(t)
	proxy := server.Proxy(t)
	client := connected(t, unrepeating(t, proxy.Addr()))

	proxy.HoldRequests(true)
	requireTimeout(t, hasty(client).RPush(t.Context(), "list", "late").Err())
	require.NoError(t, client.Close())
	require.Empty(t, server.Keys(t))

	proxy.HoldRequests(false)
	require.Equal(t, "late", popped(t, server, "list"))
}

// Whichever goroutine of the proxy runs first.
func TestHeldRequestsRunInTheOrderInWhichTheyCame(t *testing.T) {
	const clients = 20
	server := redistest.Start(t)
	proxy := server.Proxy(t)
	conns := make([]net.Conn, clients)
	for i := range conns {
		conn, err := net.Dial("tcp", proxy.Addr())
		require.NoError(t, err)
		defer conn.Close()
		conns[i] = conn
	}
	for range 5 {
		// what was popped has been sent, but its connection may still have its place
		eventually(t, func() bool { return proxy.Held() == 0 })
		proxy.HoldRequests(true)
		for i, conn := range conns {
			_, err := fmt.Fprintf(conn, "RPUSH list %d\r\n", i)
			require.NoError(t, err)
			eventually(t, func() bool { return proxy.Held() == i+1 })
		}
		proxy.HoldRequests(false)
		for i := range conns {
			require.Equal(t, fmt.Sprint(i), popped(t, server, "list"))
		}
	}
}

func TestHeldReplyArrivesInTheEnd(t *testing.T) {
	server := redistest.Start(t)
	proxy := server.Proxy(t)
	client := connected(t, proxy.Client(t))

	proxy.HoldReplies(true)
	reply := make(chan int64, 1)
	go func() { reply <- client.Incr(t.Context(), "n").Val() }()
	eventually(t, func() bool { return len(server.Keys(t)) == 1 })
	require.Empty(t, reply)
	proxy.HoldReplies(false)
	require.EqualValues(t, 1, within(t, reply))
}

func TestCutResetsAndForgets(t *testing.T) {
	server := redistest.Start(t)
	proxy := server.Proxy(t)
	client := connected(t, unrepeating(t, proxy.Addr()))

	proxy.HoldRequests(true)
	failed := make(chan error, 1)
	go func() { failed <- client.BLPop(t.Context(), time.Minute, "list").Err() }()
	eventually(t, func() bool { return proxy.Held() == 1 })
	requireTimeout(t, hasty(client).Set(t.Context(), "held", 1, 0).Err())
	eventually(t, func() bool { return proxy.Held() == 2 })
	proxy.Cut()
	require.Error(t, within(t, failed))

	proxy.HoldRequests(false)
	connected(t, client) // on a new connection
	require.NoError(t, proxy.Close())
	require.Empty(t, server.Keys(t))
}

func TestRefuseSparesExistingConnections(t *testing.T) {
	proxy := redistest.Start(t).Proxy(t)
	client := connected(t, unrepeating(t, proxy.Addr()))

	proxy.Refuse(true)
	require.Error(t, unrepeating(t, proxy.Addr()).Ping(t.Context()).Err())
	require.NoError(t, client.Ping(t.Context()).Err())

	proxy.Refuse(false)
	require.NoError(t, unrepeating(t, proxy.Addr()).Ping(t.Context()).Err())
}

func TestDroppedReplyMakesTheClientRepeat(t *testing.T) {
	for name, tt := range map[string]struct{ drops, calls int }{
		"once":  {1, 2},
		"twice": {2, 3},
	} {
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t)
			proxy := server.Proxy(t)
			client := connected(t, proxy.Client(t))
			dropped := proxy.DropReplies(tt.drops, "incr")

			require.NoError(t, client.Set(t.Context(), "other", 1, 0).Err(),
				"not what was asked for")
			require.Equal(t, 1, server.CommandCount(t, "set"))
			select {
			case <-dropped:
				t.Fatal("dropped too early")
			default:
			}
			require.EqualValues(t, tt.calls, client.Incr(t.Context(), "n").Val())
			within(t, dropped)
			require.Equal(t, tt.calls, server.CommandCount(t, "incr"))
			require.EqualValues(t, tt.calls+1, client.Incr(t.Context(), "n").Val(), "and no more")
		})
	}
}

func TestDroppedReplyToScript(t *testing.T) {
	server := redistest.Start(t)
	proxy := server.Proxy(t)
	client := connected(t, proxy.Client(t))
	script := redis.NewScript(`return redis.call("incr", KEYS[1])`)
	require.NoError(t, script.Load(t.Context(), client).Err())

	dropped := proxy.DropReplyOnce("evalsha")
	n, err := script.Run(t.Context(), client, []string{"n"}).Int()
	require.NoError(t, err)
	require.Equal(t, 2, n)
	within(t, dropped)
	require.Equal(t, 2, server.CommandCount(t, "evalsha"))
}

func TestDropMatchMayStraddleReads(t *testing.T) {
	server := redistest.Start(t)
	proxy := server.Proxy(t)
	conn, err := net.Dial("tcp", proxy.Addr())
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	dropped := proxy.DropReplyOnce("incr needle")

	_, err = fmt.Fprint(conn, "ping\r\nincr ne")
	require.NoError(t, err)
	_, err = bufio.NewReader(conn).ReadString('\n') // so the first half has been through
	require.NoError(t, err)
	_, err = fmt.Fprint(conn, "edle\r\n")
	require.NoError(t, err)
	within(t, dropped)
	require.Equal(t, []string{"needle"}, server.Keys(t))
	_, err = conn.Read(make([]byte, 1))
	require.Error(t, err, "the connection is cut")
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
}

func TestProxyOfDeadServer(t *testing.T) {
	server := redistest.Start(t)
	proxy := server.Proxy(t)
	client := connected(t, unrepeating(t, proxy.Addr()))
	require.NoError(t, server.Kill())
	require.Error(t, client.Ping(t.Context()).Err())

	server.Restart(t)
	connected(t, client)
}

// Close with requests held, bytes delayed and clients connected: goleak would tell
// of a goroutine left behind.
func TestCloseEndsWhatIsUnderway(t *testing.T) {
	server := redistest.Start(t)
	proxy, err := redistest.LaunchProxy(server.Addr())
	require.NoError(t, err)
	client := connected(t, unrepeating(t, proxy.Addr()))
	proxy.HoldRequests(true)
	requireTimeout(t, hasty(client).Ping(t.Context()).Err())
	proxy.HoldRequests(false)
	proxy.Delay(time.Hour)
	requireTimeout(t, hasty(client).Ping(t.Context()).Err())

	require.NoError(t, proxy.Close())
	require.NoError(t, proxy.Close())
	require.Error(t, client.Ping(t.Context()).Err())
}

func TestForgottenConnectionsAreSilentAndNewOnesWork(t *testing.T) {
	s := redistest.Start(t)
	p := s.Proxy(t)
	old, err := net.Dial("tcp", p.Addr())
	require.NoError(t, err)
	defer old.Close()
	answer := make([]byte, 7)
	ping := func(c net.Conn, patience time.Duration) error {
		_, err := c.Write([]byte("PING\r\n"))
		require.NoError(t, err)
		require.NoError(t, c.SetReadDeadline(time.Now().Add(patience)))
		_, err = io.ReadFull(c, answer)
		return err
	}
	require.NoError(t, ping(old, 10*time.Second))
	p.Forget()
	for range 2 {
		require.ErrorIs(t, ping(old, 300*time.Millisecond), os.ErrDeadlineExceeded)
	}
	fresh, err := net.Dial("tcp", p.Addr())
	require.NoError(t, err)
	defer fresh.Close()
	require.NoError(t, ping(fresh, 10*time.Second))
	require.Equal(t, "+PONG\r\n", string(answer))
}
