package peers

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bsm/redislock"
	"github.com/go-redsync/redsync/v4"
	"github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"
	"github.com/redis/rueidis/rueidislock"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/redistest"
)

// rows are the lines of the table in README.md, each with the test of what it says. Whoever changes
// a line changes it here, and sees whether it is true.
var rows = []struct {
	line string
	test func(t *testing.T)
}{
	{"| client | go-redis v9 | go-redis v6-v9, redigo, rueidis, valkey-go | go-redis v9 | " +
		"rueidis |", clientsOfEach},
	{"| independent masters | yes | yes | no | no (several keys on one deployment) |",
		independentMasters},
	{"| a server that hangs, of several, costs | nothing | a client timeout; with `WithFailFast` " +
		"nothing as a rule, sometimes half a minute | - | - |", hungServer},
	{"| renewal | built in | by hand | by hand | built in |", renewal},
	{"| loss is signalled | channel, context, error | by asking (`Valid`, `Until`) | by asking " +
		"(`TTL`) | context |", loss},
	{"| several resources | all or nothing | one by one | one by one | one by one |",
		severalResources},
	{"| fencing token | `WithFencing` | no | no | no |", fencing},
	{"| waiting | first come, first served; woken by a message | polls, 32 tries by default | " +
		"polls, by a strategy | is notified |", waiting},
	{"| manual extension | any TTL | the mutex's TTL | any TTL | no |", manualExtension},
	{"| clean-up after a cancelled attempt | always, in the background | with the ended context " +
		"| - | yes |", cancelledAttempt},
}

func TestTableOfOtherLibraries(t *testing.T) {
	_, table, _ := strings.Cut(readFile(t, "../../README.md"),
		"| | redlock | redsync | redislock | rueidislock |\n| --- | --- | --- | --- | --- |\n")
	table, _, _ = strings.Cut(table, "\n\n")
	lines := strings.Split(table, "\n")
	for _, row := range rows {
		name := strings.TrimSpace(strings.Split(row.line, "|")[1])
		t.Run(name, func(t *testing.T) {
			if !slices.Contains(lines, row.line) {
				t.Errorf("README.md lacks the line %s", row.line)
			}
			row.test(t)
		})
	}
	if len(lines) != len(rows) {
		t.Errorf("README.md has %d lines, and %d are tested", len(lines), len(rows))
	}
}

// clientsOfEach looks into redsync's directory; the other clients are those that this module
// compiles with.
func clientsOfEach(t *testing.T) {
	var found []string
	for _, pattern := range []string{"*", "goredis/v*"} {
		dirs, err := filepath.Glob(filepath.Join(moduleDir(t, "github.com/go-redsync/redsync/v4"),
			"redis", pattern))
		noError(t, err)
		for _, dir := range dirs {
			found = append(found, filepath.Base(dir))
		}
	}
	for _, want := range []string{"goredis", "v7", "v8", "v9", "redigo", "rueidis", "valkeygo"} {
		if !slices.Contains(found, want) {
			t.Errorf("redsync has %q, and not %s", found, want)
		}
	}
}

// independentMasters stops one of three servers.
func independentMasters(t *testing.T) {
	servers, clients := start(t, 3)
	noError(t, servers[2].Kill())
	for _, l := range []library{ours(openRedlock(t, clients)), redsyncOver(openRedsync(clients))} {
		held, err := l.try(t.Context(), l.name)
		noError(t, err)
		noError(t, held.Release(t.Context()))
	}
	// The others take one client, or make one.
	if in := reflect.TypeOf(redislock.New).In(0); in.Kind() == reflect.Slice {
		t.Error("redislock takes several clients")
	}
	if _, several := reflect.TypeFor[rueidislock.LockerOption]().FieldByName(
		"ClientOptions"); several {
		t.Error("rueidislock takes several clients")
	}
}

// hungServer stops one of three servers in a way that only a timeout tells. The clients have a long
// one.
func hungServer(t *testing.T) {
	servers, stock := start(t, 3)
	var clients []*redis.Client
	for _, c := range stock {
		o := redis.Options{Addr: c.Options().Addr, ReadTimeout: time.Minute, MaxRetries: -1}
		patientClient := redis.NewClient(&o)
		t.Cleanup(func() { noError(t, patientClient.Close()) })
		noError(t, patientClient.Ping(t.Context()).Err()) // connected before the server hangs
		clients = append(clients, patientClient)
	}
	l := openRedlock(t, clients)
	rs := openRedsync(clients)
	noError(t, servers[2].Pause())

	waits := make(chan error, 1)
	go func() { waits <- rs.NewMutex("default").TryLockContext(t.Context()) }()
	eventually(t, "redsync's keys on two servers", func() bool {
		return len(servers[0].Keys(t)) == 1 && len(servers[1].Keys(t)) == 1
	})
	h, err := l.TryAcquire(t.Context(), "r")
	noError(t, err)
	noError(t, h.Release(t.Context()))
	hasty := make(chan error, 1)
	go func() {
		hasty <- rs.NewMutex("hasty", redsync.WithFailFast(true)).TryLockContext(t.Context())
	}()
	noError(t, within(t, "redsync with WithFailFast", hasty))
	select {
	case err := <-waits:
		t.Errorf("redsync has not waited for the server that hangs: %v", err)
	default:
	}
	noError(t, servers[2].Resume())
	// with or without the lock: its time may be over
	within(t, "redsync, when the server goes on", waits)
}

// renewal holds locks for longer than their TTL.
func renewal(t *testing.T) {
	const short = 3 * time.Second
	servers, clients := start(t, 1)
	l := openRedlock(t, clients, redlock.WithTTL(short))
	h, err := l.TryAcquire(t.Context(), "ours", redlock.WithAutoRenewal(true))
	noError(t, err)
	noError(t, openRedsync(clients).NewMutex("redsync",
		redsync.WithExpiry(short)).TryLockContext(t.Context()))
	_, err = redislock.New(clients[0]).Obtain(t.Context(), "redislock", short, nil)
	noError(t, err)
	peer, err := rueidislock.NewLocker(rueidislock.LockerOption{
		ClientOption: rueidis.ClientOption{InitAddress: []string{servers[0].Addr()}},
		KeyMajority:  1, KeyValidity: short, TryNextAfter: short,
	})
	noError(t, err)
	t.Cleanup(peer.Close)
	ctx, cancel, err := peer.TryWithContext(t.Context(), "r")
	noError(t, err)
	defer cancel()

	begin := time.Now()
	eventually(t, "the end of what is not renewed", func() bool {
		keys := servers[0].Keys(t)
		slices.Sort(keys)
		return time.Since(begin) > short && slices.Equal(keys,
			[]string{"lock:ours", "rueidislock:0:r"})
	})
	noError(t, h.Err())
	noError(t, ctx.Err())
}

// loss deletes the keys behind their owners' backs.
func loss(t *testing.T) {
	servers, clients := start(t, 1)
	h, err := openRedlock(t, clients, redlock.WithTTL(3*time.Second)).TryAcquire(t.Context(), "r",
		redlock.WithAutoRenewal(true))
	noError(t, err)
	m := openRedsync(clients).NewMutex("redsync")
	noError(t, m.LockContext(t.Context()))
	b, err := redislock.New(clients[0]).Obtain(t.Context(), "redislock", ttl, nil)
	noError(t, err)
	ctx, cancel, err := openRueidislock(t, servers[0].Addr(), 1).TryWithContext(t.Context(), "r")
	noError(t, err)
	defer cancel()
	for _, key := range []string{"lock:r", "redsync", "redislock", "rueidislock:0:r"} {
		noError(t, clients[0].Del(t.Context(), key).Err())
	}

	within(t, "our channel", h.Done())
	within(t, "our context", h.Context(t.Context()).Done())
	wantError(t, h.Err(), redlock.ErrLost)
	within(t, "rueidislock's context", ctx.Done())
	//lint:ignore SA1019 deprecated, and in the table
	if ok, _ := m.ValidContext(t.Context()); ok {
		t.Error("redsync's Valid says yes")
	}
	if !m.Until().After(time.Now()) {
		t.Error("redsync's Until should know nothing of it")
	}
	if left, err := b.TTL(t.Context()); left != 0 || err != nil {
		t.Errorf("redislock's TTL should be 0, and is %v, %v", left, err)
	}
}

// severalResources looks for methods: what is not there cannot be called. It and fencing fail when
// redislock's next version is used, and the table and docs/migrating.md are to say more then.
func severalResources(t *testing.T) {
	has(t, true, (*redlock.Locker)(nil), "AcquireMulti")
	has(t, false, (*redsync.Redsync)(nil), "NewMultiMutex")
	has(t, false, (*redislock.Client)(nil), "ObtainMulti")
	if n := reflect.TypeFor[rueidislock.Locker]().NumMethod(); n != 5 {
		t.Errorf("rueidislock has %d methods, and not five: what is new?", n)
	}
	if strings.Contains(
		readFile(t, filepath.Join(moduleDir(t, "github.com/go-redsync/redsync/v4"), "mutex.go")),
		"names ") {
		t.Error("a mutex of redsync has several names")
	}
}

// fencing has two holders of ours, and looks for a method of the others.
func fencing(t *testing.T) {
	_, clients := start(t, 3)
	l := openRedlock(t, clients, redlock.WithFencing())
	var tokens []uint64
	for range 2 {
		h, err := l.TryAcquire(t.Context(), "r")
		noError(t, err)
		tokens = append(tokens, h.Fence())
		noError(t, h.Release(t.Context()))
	}
	if tokens[0] == 0 || tokens[1] <= tokens[0] {
		t.Errorf("tokens: %v", tokens)
	}
	for _, lock := range []any{
		(*redsync.Mutex)(nil), (*redislock.Lock)(nil), (*redislock.Client)(nil), nil,
	} {
		for _, method := range []string{"Fence", "FenceToken", "FencingToken"} {
			has(t, false, lock, method)
		}
	}
}

// waiting counts redsync's tries, and lets rueidislock and ours wait for good.
func waiting(t *testing.T) {
	servers, clients := start(t, 1)
	inTurn(t, servers[0])
	h, err := openRedlock(t, clients, redlock.WithKeyPrefix("")).TryAcquire(t.Context(), "r",
		redlock.WithTTL(ttl))
	noError(t, err)
	tries := 1
	m := openRedsync(clients).NewMutex("r", redsync.WithRetryDelayFunc(
		func(int) time.Duration { tries++; return 0 }))
	if err := m.LockContext(t.Context()); err == nil || tries != 32 {
		t.Errorf("redsync made %d tries, and ended with %v", tries, err)
	}
	strategy := &counting{left: 3}
	_, err = redislock.New(clients[0]).Obtain(t.Context(), "r", ttl,
		&redislock.Options{RetryStrategy: strategy})
	wantError(t, err, redislock.ErrNotObtained)
	if strategy.left != -1 {
		t.Errorf("redislock has not asked its strategy until it said no: %d left", strategy.left)
	}
	noError(t, h.Release(t.Context()))

	first, second := openRueidislock(t, servers[0].Addr(), 1),
		openRueidislock(t, servers[0].Addr(), 1)
	_, release, err := first.WithContext(t.Context(), "r")
	noError(t, err)
	got := make(chan context.CancelFunc, 1)
	go func() {
		_, cancel, err := second.WithContext(t.Context(), "r")
		if err != nil {
			t.Error(err)
		}
		got <- cancel
	}()
	eventually(t, "a first try of the waiter",
		func() bool {
			return servers[0].CommandCount(t, "evalsha")+servers[0].CommandCount(t, "eval") > 1
		})
	release()
	within(t, "the waiter is notified", got)()
}

// inTurn has Lockers of ours wait for a lock, each with a client of its own, as processes have.
// They get it in the order in which they came. A waiter that is called and does not come within
// 250 ms is passed over: if a hand-over took about that long, the order says nothing, and they
// queue again.
func inTurn(t *testing.T, server *redistest.Server) {
	var order []int
	for range 5 {
		var slowest time.Duration
		order, slowest = queued(t, server)
		if slices.IsSorted(order) {
			return
		}
		if slowest < 200*time.Millisecond {
			break
		}
	}
	t.Errorf("the waiters were served in the order %v", order)
}

// queued returns the order in which waiters were served, and the longest time between two of them.
func queued(t *testing.T, server *redistest.Server) (order []int, slowest time.Duration) {
	open := func() *redlock.Locker { return openRedlock(t, []*redis.Client{server.Client(t)}) }
	holder := open()
	h, err := holder.TryAcquire(t.Context(), "r", redlock.WithTTL(ttl))
	noError(t, err)
	const waiters = 5
	type turn struct {
		who int
		at  time.Time
	}
	served := make(chan turn, waiters)
	var done []chan error
	for i := range waiters {
		l := open()
		ended := make(chan error, 1)
		go func() {
			h, err := l.Acquire(t.Context(), "r")
			if err == nil {
				served <- turn{i, time.Now()}
				err = h.Release(t.Context())
			}
			ended <- err
		}()
		done = append(done, ended)
		eventually(t, "the next one in the queue", func() bool {
			status, err := holder.Inspect(t.Context(), "r")
			noError(t, err)
			return status.Waiters == i+1
		})
	}
	server.ResetStats(t)
	before := time.Now()
	noError(t, h.Release(t.Context()))
	for range waiters {
		next := within(t, "somebody who was served", served)
		order, slowest = append(order, next.who), max(slowest, next.at.Sub(before))
		before = next.at
	}
	for _, ended := range done {
		noError(t, within(t, "a waiter", ended))
	}
	if n := server.CommandCount(t, "publish"); n < waiters {
		t.Errorf("%d messages, for %d waiters", n, waiters)
	}
	return order, slowest
}

// counting is a strategy that says no after some times.
type counting struct{ left int }

func (c *counting) NextBackoff() time.Duration {
	c.left--
	if c.left < 0 {
		return 0
	}
	return time.Millisecond
}

// manualExtension reads parameters: what cannot be said cannot be had.
func manualExtension(t *testing.T) {
	var h *redlock.Handle
	var m *redsync.Mutex
	var b *redislock.Lock
	var _ func(context.Context, time.Duration) error = h.Extend
	var _ func(context.Context) (bool, error) = m.ExtendContext
	var _ func(context.Context, time.Duration, *redislock.Options) error = b.Refresh
	has(t, false, (rueidislock.Locker)(nil), "Extend")
}

// cancelledAttempt takes the name on two of three servers. The third one grants it, then the
// context ends.
func cancelledAttempt(t *testing.T) {
	servers, clients := start(t, 3)
	for _, c := range clients[:2] {
		noError(t, c.Set(t.Context(), "r", "a stranger's", ttl).Err())
	}
	attempt := func(try func(ctx context.Context, clients []*redis.Client)) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		hooked := []*redis.Client{clients[0], clients[1],
			redis.NewClient(&redis.Options{Addr: servers[2].Addr()})}
		hooked[2].AddHook(&afterGrant{do: cancel})
		try(ctx, hooked)
		noError(t, hooked[2].Close())
	}
	attempt(func(ctx context.Context, clients []*redis.Client) {
		if err := openRedsync(clients).NewMutex("r").LockContext(ctx); err == nil {
			t.Error("redsync has the lock")
		}
	})
	if v := valuesOf(t, clients, "r")[2]; v == "" {
		t.Error("redsync has cleaned up")
	}
	noError(t, clients[2].FlushAll(t.Context()).Err())

	attempt(func(ctx context.Context, clients []*redis.Client) {
		l, err := redlock.New(clients, redlock.WithKeyPrefix(""))
		noError(t, err)
		if _, err := l.TryAcquire(ctx, "r"); err == nil {
			t.Error("redlock has the lock")
		}
		eventually(t, "our clean-up", func() bool { return valuesOf(t, clients, "r")[2] == "" })
		noError(t, l.Close())
	})

	rueidislockCancelled(t, servers[2])
}

// rueidislockCancelled cancels an attempt whose reply is held up: what was set is deleted.
func rueidislockCancelled(t *testing.T, server *redistest.Server) {
	p := server.Proxy(t)
	peer := openRueidislock(t, p.Addr(), 1)
	_, cancelWarm, err := peer.TryWithContext(t.Context(), "warm")
	noError(t, err)
	cancelWarm()
	p.HoldReplies(true)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, _, err := peer.TryWithContext(ctx, "r")
		done <- err
	}()
	eventually(t, "rueidislock's key",
		func() bool { return slices.Contains(server.Keys(t), "rueidislock:0:r") })
	cancel()
	p.HoldReplies(false)
	within(t, "the end of its attempt", done)
	eventually(t, "rueidislock's clean-up",
		func() bool { return !slices.Contains(server.Keys(t), "rueidislock:0:r") })
}

// afterGrant does something when a first command has been answered, and before go-redis hears of
// it.
type afterGrant struct {
	do   func()
	once atomic.Bool
}

func (a *afterGrant) DialHook(next redis.DialHook) redis.DialHook { return next }

func (a *afterGrant) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		a.answered(cmd, err)
		return err
	}
}

func (a *afterGrant) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		a.answered(cmds[0], err)
		return err
	}
}

func (a *afterGrant) answered(cmd redis.Cmder, err error) {
	var reply redis.Error
	if errors.As(err, &reply) || cmd.Name() == "hello" || cmd.Name() == "client" {
		// a script's text is not known yet
		return
	}
	if a.once.CompareAndSwap(false, true) {
		a.do()
	}
}

func has(t *testing.T, want bool, of any, method string) {
	t.Helper()
	typ := reflect.TypeOf(of)
	if typ == nil {
		typ = reflect.TypeFor[rueidislock.Locker]()
	}
	if _, found := typ.MethodByName(method); found != want {
		t.Errorf("%v has a method %s: %v", typ, method, found)
	}
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	noError(t, err)
	return string(text)
}
