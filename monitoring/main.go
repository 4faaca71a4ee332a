// Command monitoring is a service to look at through its metrics: workers that wait for each
// other's orders, a report that renews its lock, and a leader. With -trouble something goes wrong
// every now and then: a lock is deleted, a node fails, or so many that no quorum is left.
//
//	go run . -trouble 30s
//	prometheus --config.file=prometheus.yaml
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/otelredlock"
	"github.com/rediskit/redlock/promredlock"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var c config
	flag.StringVar(&c.listen, "listen", "127.0.0.1:2112", "`address` of /metrics")
	flag.StringVar(&c.exporter, "exporter", "prometheus",
		"what makes the metrics: prometheus (promredlock) or otel (otelredlock)")
	flag.DurationVar(&c.trouble, "trouble", 0, "how often something goes wrong; 0: never")
	flag.Parse()
	if err := run(ctx, c,
		func(addr string) { fmt.Printf("http://%s/metrics\n", addr) }); err != nil {
		log.Fatal(err)
	}
}

type config struct {
	listen   string
	exporter string
	trouble  time.Duration
}

// run serves until ctx ends. It tells its address when it can be scraped.
func run(ctx context.Context, c config, ready func(addr string)) error {
	registry := prometheus.NewRegistry()
	observer, err := newObserver(c.exporter, registry)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", c.listen)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	ready(listener.Addr().String())

	err = work(ctx, observer, c.trouble)
	closed := server.Close()
	if end := <-served; !errors.Is(end, http.ErrServerClosed) {
		err = errors.Join(err, end)
	}
	return errors.Join(err, closed)
}

// newObserver returns what measures, by either exporter.
func newObserver(exporter string, registry *prometheus.Registry) (redlock.Observer, error) {
	switch exporter {
	case "prometheus":
		metrics := promredlock.New(promredlock.WithGroup(promredlock.BeforeColon))
		return metrics, registry.Register(metrics)
	case "otel":
		reader, err := otelprometheus.New(otelprometheus.WithRegisterer(registry))
		if err != nil {
			return nil, err
		}
		provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
		return otelredlock.New(otelredlock.WithMeterProvider(provider),
			otelredlock.WithGroup(otelredlock.BeforeColon))
	}
	return nil, fmt.Errorf("there is no exporter %q, only prometheus and otel", exporter)
}
