package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rediskit/redlock/internal/redistest"
)

// maxNodes is how many servers a field has; a scenario with fewer nodes uses the first of them.
const maxNodes = 5

// field is the servers that everything runs against, with a client of our own for each: no subject
// uses those.
type field struct {
	servers  []*redistest.Server
	admins   []*redis.Client
	patience time.Duration // for what a subject does in the background after its last unlock
}

// newField returns the field of servers that run already. They stay the caller's.
func newField(servers []*redistest.Server) *field {
	f := &field{servers: servers, patience: 5 * time.Second}
	for _, s := range servers {
		f.admins = append(f.admins, redis.NewClient(&redis.Options{Addr: s.Addr()}))
	}
	return f
}

// launch starts the servers, with their files under dir.
func launch(dir string) (_ []*redistest.Server, err error) {
	servers := make([]*redistest.Server, maxNodes)
	for i := range servers {
		servers[i], err = redistest.Launch(filepath.Join(dir, strconv.Itoa(i)))
		if err != nil {
			return nil, errors.Join(err, stop(servers[:i]))
		}
	}
	return servers, nil
}

// stop ends servers that launch has started.
func stop(servers []*redistest.Server) error {
	var errs []error
	for _, s := range servers {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

// close closes the field's clients.
func (f *field) close() error {
	var errs []error
	for _, c := range f.admins {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// addrs returns the addresses of the first n servers.
func (f *field) addrs(n int) []string {
	addrs := make([]string, n)
	for i := range addrs {
		addrs[i] = f.servers[i].Addr()
	}
	return addrs
}

const (
	calm    = 10 * time.Millisecond  // without a key: nothing is on its way any more
	farCalm = 600 * time.Millisecond // the same where round trips take long
)

// settle waits until the servers have had no key with the name in it for the calm time: what a
// subject does in the background is over then, and does not disturb the next one. It returns how
// many keys were left when its patience was at an end, and deletes everything.
func (f *field) settle(ctx context.Context, name string, calm time.Duration) (left int, err error) {
	begin := time.Now()
	for quiet := begin; time.Since(quiet) < calm; time.Sleep(calm / 10) {
		if left, err = f.count(ctx, name); err != nil {
			return 0, err
		}
		if left == 0 {
			continue
		}
		if quiet = time.Now(); quiet.Sub(begin) > f.patience {
			return left, f.flush(ctx)
		}
	}
	return 0, nil
}

// count counts the keys with the name in them on all servers.
func (f *field) count(ctx context.Context, name string) (sum int, err error) {
	for i, c := range f.admins {
		keys, err := c.Keys(ctx, "*"+name+":*").Result()
		if err != nil {
			return 0, fmt.Errorf("node %d: %w", i, err)
		}
		sum += len(keys)
	}
	return sum, nil
}

// flush deletes all keys.
func (f *field) flush(ctx context.Context) error {
	for i, c := range f.admins {
		if err := c.FlushAll(ctx).Err(); err != nil {
			return fmt.Errorf("node %d: %w", i, err)
		}
	}
	return nil
}

// calls returns how often the first n servers together were sent one of the commands. Redis counts
// a command that a script calls under its own name too, so the list must hold what clients send and
// leave out what only scripts call.
func (f *field) calls(ctx context.Context, n int, commands []string) (float64, error) {
	sum := 0
	for _, c := range f.admins[:n] {
		info, err := c.Info(ctx, "commandstats").Result()
		if err != nil {
			return 0, err
		}
		for _, command := range commands {
			if _, line, ok := strings.Cut(info, "cmdstat_"+command+":calls="); ok {
				count, _, _ := strings.Cut(line, ",")
				calls, err := strconv.Atoi(count)
				if err != nil {
					return 0, err
				}
				sum += calls
			}
		}
	}
	return float64(sum), nil
}

// version returns the version of the servers.
func (f *field) version(ctx context.Context) string {
	info, err := f.admins[0].Info(ctx, "server").Result()
	if err != nil {
		return "unknown"
	}
	_, rest, _ := strings.Cut(info, "redis_version:")
	version, _, _ := strings.Cut(rest, "\r\n")
	return version
}

// distance puts a proxy in front of each server that makes every round trip take the given time,
// and returns their addresses and what closes them. All of it is spent on the way back: to hold
// requests too would wake this program twice as often, on the processors that the subjects need.
func (f *field) distance(
	roundTrips []time.Duration) (addrs []string, done func() error, err error) {
	var proxies []*redistest.Proxy
	done = func() error {
		var errs []error
		for _, p := range proxies {
			errs = append(errs, p.Close())
		}
		return errors.Join(errs...)
	}
	for i, d := range roundTrips {
		p, err := redistest.LaunchProxy(f.servers[i].Addr())
		if err != nil {
			return nil, nil, errors.Join(err, done())
		}
		p.DelayReplies(d)
		proxies, addrs = append(proxies, p), append(addrs, p.Addr())
	}
	return addrs, done, nil
}
