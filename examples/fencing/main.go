// Fencing shows what a lock alone cannot prevent, and a fencing token can: a worker that is paused
// for longer than its lock lives, and wakes up in the middle of its write.
//
// Two workers add to a balance: read, think, write. The first one takes the lock, reads, and is
// paused. Its lock expires, the second one takes it and writes. Then the first one wakes up and
// writes what it had worked out, and the second one's work is lost. With fencing the store
// remembers the largest token that was shown to it, and refuses the write. The token is shown with
// the read already: from then on nobody can change what was read who had the lock before. The
// program shows both, with a balance in a Redis key and with one in an SQL table, and fails if
// either does not come true.
//
//	cd examples/fencing && go run .
//	cd examples/fencing && go run . -redis host1:6379,host2:6379,host3:6379
//
// The locks need the nodes to be independent masters; the balance in Redis is ordinary data on the
// first of them. The SQL database is an embedded SQLite.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rediskit/redlock"
)

// ttl is how long a lock lives, and what a pause has to exceed.
const ttl = 500 * time.Millisecond

func main() {
	log.SetFlags(0)
	addrs := flag.String("redis", "", redisUsage)
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *addrs)
	stop()
	if err != nil {
		log.Fatalf("fencing: %v", err)
	}
}

func run(ctx context.Context, addrs string) (err error) {
	nodes, closeNodes, err := openNodes(addrs, 3)
	if err != nil {
		return err
	}
	defer closeNodes()
	name := "fencing-" + rand.Text()[:8]
	defer func() { err = errors.Join(err, forget(nodes, name)) }()

	table, err := openTable(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, table.close()) }()
	key := &key{data: nodes[0], name: name + ":balance"}
	defer func() { err = errors.Join(err, key.close()) }()

	say := narrator()
	for _, s := range []store{key, table} {
		for _, fenced := range []bool{false, true} {
			if err := (&scene{store: s, fenced: fenced, nodes: nodes, name: name, say: say}).play(
				ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// forget deletes the counters of the fencing tokens. A real program leaves them: they outlive each
// lock, and expire a week after the last one.
func forget(nodes []*redis.Client, name string) error {
	var errs []error
	for _, node := range nodes {
		errs = append(errs, node.Del(context.Background(), "{"+name+":balance}:fence").Err())
	}
	return errors.Join(errs...)
}

// scene is one run of the story.
type scene struct {
	store  store
	fenced bool
	nodes  []*redis.Client
	name   string
	say    func(who, format string, args ...any)
}

func (s *scene) play(ctx context.Context) (err error) {
	with := "without"
	if s.fenced {
		with = "with"
	}
	s.say("store", "%v, %s fencing: the balance is 100", s.store, with)
	if err := s.store.reset(ctx, 100); err != nil {
		return err
	}
	first, err := s.worker("worker-1")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, first.Close()) }()
	second, err := s.worker("worker-2")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, second.Close()) }()

	read, woke := make(chan struct{}), make(chan struct{})
	late := make(chan error, 1)
	go func() { late <- s.add(ctx, first, "worker-1", 10, read, woke) }()
	select {
	case <-read:
	case err := <-late:
		return err
	}
	s.say("worker-1", "is paused")
	// The second worker waits until the lock of the first one has expired.
	err = s.add(ctx, second, "worker-2", 5, nil, nil)
	close(woke)
	return s.judge(ctx, errors.Join(err, ctx.Err()), <-late)
}

func (s *scene) worker(name string) (*redlock.Locker, error) {
	opts := []redlock.Option{redlock.WithKeyPrefix(s.name), redlock.WithOwner(name),
		redlock.WithTTL(ttl), redlock.WithNodeTimeout(ttl / 2)}
	if s.fenced {
		opts = append(opts, redlock.WithFencing())
	}
	return redlock.New(s.nodes, opts...)
}

// add adds to the balance under the lock. Between its read and its write it is paused: it tells of
// the read, and goes on when it is woken. A paused process looks at nothing, its lock neither.
func (s *scene) add(ctx context.Context, l *redlock.Locker, who string, amount int,
	read chan<- struct{}, woke <-chan struct{}) error {
	h, err := l.Acquire(ctx, "balance")
	if err != nil {
		return err
	}
	defer h.Release(ctx) // ErrLost to whoever was paused: then the store has said so before
	balance, err := s.store.read(ctx, h.Fence())
	if err != nil {
		return err
	}
	s.say(who, "has the lock, with the fencing token %d, and reads %d", h.Fence(), balance)
	if read != nil {
		close(read)
		<-woke
		s.say(who, "wakes up and goes on as if nothing had happened")
	}
	if err := pretend(ctx, 50*time.Millisecond); err != nil {
		return err
	}
	if err := s.store.write(ctx, balance+amount, h.Fence()); err != nil {
		s.say(who, "wants to write %d: %v", balance+amount, err)
		return err
	}
	s.say(who, "writes %d", balance+amount)
	return nil
}

// judge says whether it has come as it should: the second worker's work is lost without fencing,
// and only then.
func (s *scene) judge(ctx context.Context, second, first error) error {
	if second != nil {
		return second
	}
	balance, err := s.store.look(ctx)
	if err != nil {
		return err
	}
	switch {
	case s.fenced && errors.Is(first, errStale) && balance == 105:
		s.say("store", "has 105: the late write was refused, and worker-1 can begin anew\n")
		return nil
	case !s.fenced && first == nil && balance == 110:
		s.say("store", "has 110: the 5 of worker-2 are lost\n")
		return nil
	default:
		return fmt.Errorf("the balance is %d, and worker-1 ended with: %w", balance, first)
	}
}
