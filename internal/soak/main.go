//go:build linux

// Soak lets client processes compete for locks on real Redis servers while faults strike both,
// records what the clients saw, and checks it: see docs/testing.md. A seed gives the same plan
// again, but real processes are never twice the same.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rediskit/redlock/internal/redistest"
)

func main() {
	clientMain()
	scenario := flag.String("scenario", safe, "what happens: "+safe+", "+careless+" or "+failover)
	seed := flag.Uint64("seed", rand.Uint64N(1_000_000), "what all else follows from")
	duration := flag.Duration("duration", 2*time.Minute, "how long things happen")
	report := flag.String("report", "",
		"where the HTML report goes; by default to the directory of temporary files")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := soak(ctx, *scenario, *seed, *duration, *report)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

var errFailed = errors.New("failed")

func soak(ctx context.Context, scenario string, seed uint64, duration time.Duration,
	path string) error {
	s, err := newSettings(scenario, seed, duration)
	if err != nil {
		return err
	}
	fmt.Println(s)
	if !redistest.CanFakeClock() {
		fmt.Println("no clock jumps:", redistest.ErrNoFakeClock)
	}
	redis.SetLogger(silence{})
	v, err := run(ctx, s)
	if err != nil {
		return err
	}
	if path == "" {
		path = filepath.Join(os.TempDir(), fmt.Sprintf("redlock-soak-%s-%d.html", s.Scenario,
			s.Seed))
	}
	if err := writeReport(path, v); err != nil {
		return err
	}
	v.print(os.Stdout)
	fmt.Println("report:", path)
	if !v.passed() {
		return errFailed
	}
	return nil
}
