// Package scene has what the snippets of the pages use and do not show.
package scene

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/rediskit/redlock"
)

// What the snippets import.
var (
	_ = errors.Is
	_ = fmt.Sprint
	_ = log.Print
	_ = slog.Default
	_ = math.Ceil
	_ = strconv.Itoa
	_ testing.TB
	_ = miniredis.RunT
)

var (
	ctx     context.Context
	client  *redis.Client
	clients []*redis.Client
	addrs   []string
	locker  *redlock.Locker
	h       *redlock.Handle
	err     error

	id, token, customer string
	password            string
	progress            int
	tick                time.Time
	order               struct{ id string }
	results             chan int
	allAccounts         []string
	server              *http.Server
	w                   http.ResponseWriter
	db                  *sql.DB
	balance             int
	store               interface {
		Write(ctx context.Context, id string, token uint64, value io.Reader) error
	}

	errSeen, errLimited, errTooLate, errStale error

	acquireSeconds interface{ Observe(seconds float64) } // a prometheus.Histogram, and so on
	lost           interface {
		WithLabelValues(labels ...string) interface{ Inc() }
	}
	margin interface{ Set(value float64) }

	partner interface {
		Quota(ctx context.Context, customer string) (int, error)
		Send(ctx context.Context, customer string) error
	}
)

func build(ctx context.Context) error                       { panic(0) }
func render(ctx context.Context) (string, error)            { panic(0) }
func lead(ctx context.Context) error                        { panic(0) }
func runScheduler(ctx context.Context) error                { panic(0) }
func work(ctx context.Context) error                        { panic(0) }
func sendInvoices(ctx context.Context) error                { panic(0) }
func ship(ctx context.Context) error                        { panic(0) }
func process(ctx context.Context, what any) error           { panic(0) }
func finished(ctx context.Context, id string) (bool, error) { panic(0) }
func acknowledge(ctx context.Context, id string) error      { panic(0) }
func send(token string, progress int) error                 { panic(0) }
func cached(ctx context.Context) (page string, fresh bool)  { panic(0) }
