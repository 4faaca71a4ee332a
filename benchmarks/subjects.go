package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/bsm/redislock"
	"github.com/go-redsync/redsync/v4"
	redsyncredis "github.com/go-redsync/redsync/v4/redis"
	"github.com/go-redsync/redsync/v4/redis/goredis/v9"
	"github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"
	"github.com/redis/rueidis/rueidislock"

	"github.com/rediskit/redlock"
)

// ttl is the time to live of every lock, whoever takes it.
const ttl = 30 * time.Second

// subject is one way of locking, with clients of its own.
type subject interface {
	// lock waits until it has all the resources. It may keep neither the slice nor change it.
	lock(ctx context.Context, resources []string) (held, error)
	close() error
}

// held is a lock that was taken.
type held interface {
	Release(ctx context.Context) error
}

// kind is a library under test.
type kind struct {
	name     string
	open     func(addrs []string) (subject, error)
	commands []string // what its clients send to lock, wait and unlock
	single   bool     // works with one node only
	noWait   bool     // cannot wait for a lock that somebody else has
	sticks   bool     // its waiters may wait for good
}

var (
	floor = kind{name: "floor", open: openFloor, commands: []string{"evalsha"}, noWait: true}
	ours  = kind{name: "redlock", open: openRedlock,
		commands: []string{"evalsha", "eval", "subscribe", "unsubscribe"}}
	passedOn = kind{name: "floor, passed on", open: openPassedOn, commands: floor.commands,
		single: true, noWait: true}
	pings    = kind{name: "PINGs", open: openPings, commands: []string{"ping"}, noWait: true}
	redsyncs = kind{name: "redsync", open: openRedsync,
		commands: []string{"set", "evalsha", "eval"}}
	hasty = kind{name: "redsync, fail-fast", open: openHastyRedsync, commands: redsyncs.commands}
	bsm   = kind{name: "redislock", open: openRedislock, commands: []string{"evalsha", "eval"},
		single: true}
	rueidi = kind{name: "rueidislock", open: openRueidislock, commands: []string{"evalsha", "eval"},
		single: true, sticks: true}
)

// kinds returns those that work with n nodes, the floor first.
func kinds(n int) []kind {
	if n > 1 {
		return []kind{floor, ours, redsyncs}
	}
	return []kind{floor, ours, redsyncs, bsm, rueidi}
}

// stockClients are go-redis clients with nothing set but the address.
type stockClients []*redis.Client

func openClients(addrs []string) stockClients {
	clients := make(stockClients, len(addrs))
	for i, addr := range addrs {
		clients[i] = redis.NewClient(&redis.Options{Addr: addr})
	}
	return clients
}

func (cs stockClients) close() error {
	var errs []error
	for _, c := range cs {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// buffers returns how many bytes the connections have to read into and to write from. go-redis
// keeps those for pipelines in a pool of their own, whose buffers have 128 KiB by default.
func (cs stockClients) buffers() (bytes int) {
	for _, c := range cs {
		o, s := c.Options(), c.PoolStats()
		bytes += int(s.TotalConns)*(o.ReadBufferSize+o.WriteBufferSize) +
			int(s.PipelineStats.TotalConns)*2*128<<10
	}
	return bytes
}

// several is a lock on many resources that were taken one by one.
type several []held

func (s several) Release(ctx context.Context) error {
	var errs []error
	for _, h := range s {
		errs = append(errs, h.Release(ctx))
	}
	return errors.Join(errs...)
}

// each takes the resources one by one, for libraries that can lock only one.
func each(resources []string, lock func(resource string) (held, error)) (held, error) {
	if len(resources) == 1 {
		return lock(resources[0])
	}
	all := make(several, 0, len(resources))
	for _, r := range resources {
		h, err := lock(r)
		if err != nil {
			return nil, err
		}
		all = append(all, h)
	}
	return all, nil
}

// redlockSubject is this library.
type redlockSubject struct {
	stockClients
	locker *redlock.Locker
}

func openRedlock(addrs []string) (subject, error) { return newRedlock(addrs) }

func newRedlock(addrs []string, opts ...redlock.Option) (subject, error) {
	clients := openClients(addrs)
	locker, err := redlock.New(clients, append(opts, redlock.WithTTL(ttl))...)
	return &redlockSubject{clients, locker}, err
}

func (s *redlockSubject) lock(ctx context.Context, resources []string) (held, error) {
	if len(resources) == 1 {
		return s.locker.Acquire(ctx, resources[0])
	}
	return s.locker.AcquireMulti(ctx, resources)
}

func (s *redlockSubject) close() error {
	return errors.Join(s.locker.Close(), s.stockClients.close())
}

// redsyncSubject is github.com/go-redsync/redsync with its go-redis pool. Its 32 tries do not last
// for the contended scenario, so they are unlimited; the pause between them is its own.
type redsyncSubject struct {
	stockClients
	rs   *redsync.Redsync
	opts []redsync.Option
}

func openRedsync(addrs []string) (subject, error) { return newRedsync(addrs) }

// openHastyRedsync is redsync with the option that makes it return as soon as a quorum has
// answered.
func openHastyRedsync(addrs []string) (subject, error) {
	return newRedsync(addrs, redsync.WithFailFast(true))
}

func newRedsync(addrs []string, opts ...redsync.Option) (subject, error) {
	clients := openClients(addrs)
	pools := make([]redsyncredis.Pool, len(clients))
	for i, c := range clients {
		pools[i] = goredis.NewPool(c)
	}
	opts = append(opts, redsync.WithExpiry(ttl), redsync.WithTries(math.MaxInt))
	return &redsyncSubject{clients, redsync.New(pools...), opts}, nil
}

func (s *redsyncSubject) lock(ctx context.Context, resources []string) (held, error) {
	return each(resources, func(resource string) (held, error) {
		m := s.rs.NewMutex(resource, s.opts...)
		return (*redsyncLock)(m), m.LockContext(ctx)
	})
}

type redsyncLock redsync.Mutex

func (l *redsyncLock) Release(ctx context.Context) error {
	_, err := (*redsync.Mutex)(l).UnlockContext(ctx)
	return err
}

// redislockSubject is github.com/bsm/redislock. It waits only if told how: with the backoff of its
// own documentation.
type redislockSubject struct {
	stockClients
	locker *redislock.Client
}

func openRedislock(addrs []string) (subject, error) {
	clients := openClients(addrs)
	return &redislockSubject{clients, redislock.New(clients[0])}, nil
}

func (s *redislockSubject) lock(ctx context.Context, resources []string) (held, error) {
	return each(resources, func(resource string) (held, error) {
		return s.locker.Obtain(ctx, resource, ttl, &redislock.Options{
			RetryStrategy: redislock.LinearBackoff(100 * time.Millisecond),
		})
	})
}

// rueidislockSubject is github.com/redis/rueidis/rueidislock with one key for a lock. A request may
// take a second instead of 20 ms: a waiter whose request timed out may wait for a message that
// never comes.
type rueidislockSubject struct{ locker rueidislock.Locker }

func openRueidislock(addrs []string) (subject, error) {
	locker, err := rueidislock.NewLocker(rueidislock.LockerOption{
		ClientOption: rueidis.ClientOption{InitAddress: addrs},
		KeyMajority:  1,
		KeyValidity:  ttl,
		TryNextAfter: time.Second,
	})
	return rueidislockSubject{locker}, err
}

func (s rueidislockSubject) lock(ctx context.Context, resources []string) (held, error) {
	return each(resources, func(resource string) (held, error) {
		_, cancel, err := s.locker.WithContext(ctx, resource)
		return rueidisLock(cancel), err
	})
}

func (s rueidislockSubject) close() error {
	s.locker.Close()
	return nil
}

type rueidisLock context.CancelFunc

func (l rueidisLock) Release(context.Context) error {
	l()
	return nil
}

// floorSubject is what any lock on these commands and this client must at least do: set a key on
// every node, delete it where it holds the token. It has no deadline, no clean-up, no validity, no
// random token, and it waits for all nodes.
type floorSubject struct {
	stockClients
	set, unset string // digests
}

const (
	floorSet   = `if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end return 0`
	floorUnset = `if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0`
	floorToken = "floor-has-the-same-token-for-all"
)

func openFloor(addrs []string) (subject, error) {
	s := &floorSubject{stockClients: openClients(addrs)}
	for _, c := range s.stockClients {
		var errs [2]error
		s.set, errs[0] = c.ScriptLoad(context.Background(), floorSet).Result()
		s.unset, errs[1] = c.ScriptLoad(context.Background(), floorUnset).Result()
		if err := errors.Join(errs[:]...); err != nil {
			return s, err
		}
	}
	return s, nil
}

func (s *floorSubject) lock(ctx context.Context, resources []string) (held, error) {
	return each(resources, func(resource string) (held, error) {
		return &floorLock{s, resource}, s.all(func(c *redis.Client) error {
			return s.run(c.EvalSha(ctx, s.set, []string{resource}, floorToken, ttl.Milliseconds()))
		})
	})
}

type floorLock struct {
	s        *floorSubject
	resource string
}

func (l *floorLock) Release(ctx context.Context) error {
	return l.s.all(func(c *redis.Client) error {
		return l.s.run(c.EvalSha(ctx, l.s.unset, []string{l.resource}, floorToken))
	})
}

func (s *floorSubject) run(cmd *redis.Cmd) error {
	if n, err := cmd.Int(); err != nil {
		return err
	} else if n != 1 {
		return fmt.Errorf("floor: unexpected reply %d", n)
	}
	return nil
}

// passedOnSubject is the floor with one thing added: whoever locks can leave when its time is up.
// Since a stock client does not let go of him, another goroutine has to make the call.
type passedOnSubject struct{ *floorSubject }

func openPassedOn(addrs []string) (subject, error) {
	s, err := openFloor(addrs)
	return passedOnSubject{s.(*floorSubject)}, err
}

func (s passedOnSubject) lock(ctx context.Context, resources []string) (h held, err error) {
	err = passOn(ctx, func() error {
		h, err = s.floorSubject.lock(ctx, resources)
		return err
	})
	return passedOnLock{h}, err
}

type passedOnLock struct{ held }

func (l passedOnLock) Release(ctx context.Context) error {
	return passOn(ctx, func() error { return l.held.Release(ctx) })
}

// passOn has another goroutine call do, and waits for it no longer than ctx lasts.
func passOn(ctx context.Context, do func() error) error {
	done := make(chan error, 1)
	go func() { done <- do() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// pingSubject locks nothing: it asks all nodes for a sign of life, and goes on when a quorum has
// given it.
type pingSubject struct{ stockClients }

func openPings(addrs []string) (subject, error) { return pingSubject{openClients(addrs)}, nil }

func (s pingSubject) lock(ctx context.Context, _ []string) (held, error) {
	return s, s.Release(ctx)
}

func (s pingSubject) Release(ctx context.Context) error {
	replies := make(chan error, len(s.stockClients))
	for _, c := range s.stockClients {
		go func() { replies <- c.Ping(ctx).Err() }()
	}
	for range len(s.stockClients)/2 + 1 {
		if err := <-replies; err != nil {
			return err
		}
	}
	return nil
}

// all does the same on every node at the same time.
func (s *floorSubject) all(do func(c *redis.Client) error) error {
	if len(s.stockClients) == 1 {
		return do(s.stockClients[0])
	}
	errs := make([]error, len(s.stockClients))
	var wg sync.WaitGroup
	for i, c := range s.stockClients {
		wg.Go(func() { errs[i] = do(c) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
