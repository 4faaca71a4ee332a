package main

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// clientTimeout is what a client waits for at most. With it, and without repetition, the process
// ends soon after its work does, even where nodes hang.
const clientTimeout = time.Second

// own are the parameters of URLs that clientOptions sets.
var own = []string{"dial_timeout", "read_timeout", "write_timeout", "pool_timeout", "max_retries"}

// openNodes returns a client for each URL of a list.
func openNodes(list string) ([]*redis.Client, error) {
	logging.Disable() // what a node says is in the errors
	if strings.TrimSpace(list) == "" {
		return nil,
			errors.New("no nodes: give --nodes or set REDLOCK_NODES, as in redis://localhost:6379")
	}
	var all []*redis.Options
	for i, text := range strings.Split(list, ",") {
		o, err := clientOptions(strings.TrimSpace(text))
		if err != nil {
			return nil, fmt.Errorf("node %d of --nodes or REDLOCK_NODES: %w", i, err)
		}
		all = append(all, o)
	}
	clients := make([]*redis.Client, len(all))
	for i, o := range all {
		clients[i] = redis.NewClient(o)
	}
	return clients, nil
}

// clientOptions returns the options of a client by its URL. No error repeats what may be a
// password.
func clientOptions(text string) (*redis.Options, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("not a URL: special characters in a password must be written as " +
			"in %40 for @ and %2C for a comma")
	}
	switch u.Scheme {
	case "redis", "rediss", "unix":
	default:
		return nil, errors.New("not a URL that begins with redis://, rediss:// or unix://")
	}
	for _, p := range own {
		if u.Query().Has(p) {
			return nil, fmt.Errorf("%s cannot be set: clients wait for %v and do not try again", p,
				clientTimeout)
		}
	}
	o, err := redis.ParseURL(text)
	if err != nil {
		return nil, fmt.Errorf("not a valid URL: %w", err)
	}
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = clientTimeout, clientTimeout,
		clientTimeout, clientTimeout
	o.MaxRetries, o.DialerRetries = -1, 1
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return o, nil
}

// onEach calls f for each client at the same time and returns what came of it.
func onEach[T any](clients []*redis.Client, f func(i int, c *redis.Client) (T,
	error)) ([]T, []error) {
	results, errs := make([]T, len(clients)), make([]error, len(clients))
	done := make(chan struct{})
	for i, c := range clients {
		go func() {
			results[i], errs[i] = f(i, c)
			done <- struct{}{}
		}()
	}
	for range clients {
		<-done
	}
	return results, errs
}

// nodeName is how messages call a node: as the library does.
func nodeName(i int, c *redis.Client) string {
	return fmt.Sprintf("node %d (%s)", i, c.Options().Addr)
}
