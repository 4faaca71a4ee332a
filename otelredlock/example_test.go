package otelredlock_test

import (
	"context"
	"fmt"
	"log"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/otelredlock"
)

// observed returns a Locker whose metrics and spans go to the global providers.
func observed(clients []*redis.Client) (*redlock.Locker, error) {
	observer, err := otelredlock.New(
		otelredlock.WithGroup(otelredlock.BeforeColon), // order:42 counts as "order"
		otelredlock.WithHoldSpans(),                    // a span for each lock, too
	)
	if err != nil {
		log.Fatal(err)
	}
	locker, err := redlock.New(clients, redlock.WithObserver(observer))
	return locker, err
}

func Example() {
	// Your program sets the providers at its start: with exporters, in place of a recorder.
	spans := tracetest.NewSpanRecorder()
	otel.SetTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)))

	server, err := miniredis.Run() // in your program: your own servers
	if err != nil {
		panic(err)
	}
	defer server.Close()
	client := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer client.Close()
	locker, err := observed([]*redis.Client{client})
	if err != nil {
		panic(err)
	}
	defer locker.Close()

	ctx, request := otel.Tracer("shop").Start(context.Background(), "POST /orders")
	err = locker.Do(ctx, "order:42", func(context.Context) error { return nil })
	request.End()
	fmt.Println(err)
	for _, s := range spans.Ended() {
		fmt.Println(s.Name(), s.SpanContext().TraceID() == request.SpanContext().TraceID())
	}
	// Output:
	// <nil>
	// redlock.acquire true
	// redlock.hold true
	// POST /orders true
}
