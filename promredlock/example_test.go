package promredlock_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/redis/go-redis/v9"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/promredlock"
)

// measured returns a Locker that is measured, and what serves its metrics.
func measured(clients []*redis.Client, registry *prometheus.Registry,
	mux *http.ServeMux) (*redlock.Locker, error) {
	// order:42 counts as "order"
	metrics := promredlock.New(promredlock.WithGroup(promredlock.BeforeColon))
	registry.MustRegister(metrics)
	mux.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	locker, err := redlock.New(clients, redlock.WithObserver(metrics))
	return locker, err
}

func Example() {
	server, err := miniredis.Run() // in your program: your own servers
	if err != nil {
		panic(err)
	}
	defer server.Close()
	client := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer client.Close()
	mux := http.NewServeMux()
	locker, err := measured([]*redis.Client{client}, prometheus.NewRegistry(), mux)
	if err != nil {
		panic(err)
	}
	defer locker.Close()

	ctx := context.Background()
	for _, name := range []string{"order:1", "order:2", "report:daily"} {
		if _, err := locker.TryAcquire(ctx, name); err != nil {
			panic(err)
		}
	}
	_, err = locker.TryAcquire(ctx, "order:1")
	fmt.Println(err != nil)

	response := httptest.NewRecorder()
	mux.ServeHTTP(response, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	text, _ := io.ReadAll(response.Body)
	for line := range strings.Lines(string(text)) {
		if regexp.MustCompile(
			`^redlock_(hold_active|acquire_duration_seconds_count|quorum)`).MatchString(line) {
			fmt.Print(line)
		}
	}
	// Output:
	// true
	// redlock_acquire_duration_seconds_count{group="order",outcome="acquired",wait="false"} 2
	// redlock_acquire_duration_seconds_count{group="order",outcome="held",wait="false"} 1
	// redlock_acquire_duration_seconds_count{group="report",outcome="acquired",wait="false"} 1
	// redlock_hold_active{group="order"} 2
	// redlock_hold_active{group="report"} 1
	// redlock_quorum_margin 0
}

// Native histograms have no buckets to choose.
func ExampleWithHistograms() {
	metrics := promredlock.New(promredlock.WithHistograms(func(o *prometheus.HistogramOpts) {
		o.Buckets, o.NativeHistogramBucketFactor = nil, 1.1
	}))
	fmt.Println(prometheus.NewRegistry().Register(metrics))
	// Output: <nil>
}
