package redlock_test

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// queues are a server with locks a, b, c and their queues. Whoever waits is "1@near", "2@near" and
// so on, whose inbox is heard, or "1@nobody", whose is not.
type queues struct {
	*testing.T
	client *redis.Client
	inbox  *redis.PubSub
	ticks  bool // its clock cannot be stopped
}

// onBothServers runs a test of queues with a real Redis and with a miniredis.
func onBothServers(t *testing.T, test func(q *queues)) {
	noLeak(t)
	for server, client := range bothServers(t) {
		t.Run(server, func(t *testing.T) {
			inbox := client.Subscribe(t.Context(), "near")
			defer func() { require.NoError(t, inbox.Close()) }()
			_, err := inbox.Receive(t.Context())
			require.NoError(t, err)
			test(&queues{t, client, inbox, server == "redis"})
		})
	}
}

// run runs a script on some locks, "a b", and returns the reply without the times in it.
func (q *queues) run(script, locks string, args ...any) any {
	q.Helper()
	reply, err := q.runAtOnce(script, withQueues(locks), args...)
	if err != nil {
		return err
	}
	switch v := reply.(type) {
	case int64:
		if v > 1 {
			requireNow(q.T, v)
			return "taken"
		}
	case []any:
		if len(v) > 3 {
			requireNow(q.T, v[3].(int64))
			v[3] = "now"
		}
		return v
	}
	return reply
}

// calledAnew gives whoever has been called to one of the queues the whole grace once more, as if no
// time had passed since.
const calledAnew = `
local time = redis.call('TIME')
local till = string.format('%.0f', -(time[1] * 1000000 + time[2] + 250000))
for _, queue in ipairs(KEYS) do
  for _, who in ipairs(redis.pcall('ZRANGEBYSCORE', queue, till, '(-1')) do
    redis.call('ZADD', queue, till, who)
  end
end`

// runAtOnce runs a script so that it does not matter how long ago the one before was.
func (q *queues) runAtOnce(script string, keys []string, args ...any) (any, error) {
	q.Helper()
	if !q.ticks {
		return runScript(q.T, q.client, script, keys, args...)
	}
	var reply *redis.Cmd
	_, _ = q.client.TxPipelined(q.Context(), func(p redis.Pipeliner) error {
		p.Eval(q.Context(), calledAnew, keys[len(keys)/2:])
		reply = p.Eval(q.Context(), scriptSource(q.T, script), keys, args...)
		return nil
	})
	return reply.Result()
}

func requireNow(t *testing.T, micros int64) {
	t.Helper()
	require.WithinDuration(t, time.Now(), time.UnixMicro(micros), time.Minute)
}

func withQueues(locks string) []string {
	keys := strings.Fields(locks)
	for _, lock := range strings.Fields(locks) {
		keys = append(keys, "{"+lock+"}:queue")
	}
	return keys
}

// wait runs the script wait for somebody, with their name for a token and a patience of 9 s.
func (q *queues) wait(locks, who string, ticket int64, mode string) any {
	q.Helper()
	return q.run("wait", locks, who, 60_000, len(strings.Fields(locks)), who, ticket, "+9000", mode)
}

// release runs the script release.
func (q *queues) release(locks, token, leaver, stayer string) any {
	q.Helper()
	if leaver == "" && stayer == "" {
		return q.run("release", locks, token)
	}
	return q.run("release", locks, token, 0, len(strings.Fields(locks)), leaver, stayer, 5, "+9000")
}

// hold makes somebody hold locks.
func (q *queues) hold(locks string) {
	q.Helper()
	for _, lock := range strings.Fields(locks) {
		require.NoError(q, q.client.Set(q.Context(), lock, "holder", time.Minute).Err())
	}
}

// line returns who stands in a queue.
func (q *queues) line(lock string) string {
	q.Helper()
	all, err := q.client.ZRange(q.Context(), "{"+lock+"}:queue", 0, -1).Result()
	require.NoError(q, err)
	var names, waitedFor []string
	for _, name := range all {
		if who := strings.TrimLeft(name, "+-"); who != name {
			waitedFor = append(waitedFor, who)
		} else {
			names = append(names, name)
		}
	}
	require.ElementsMatch(q, names, waitedFor)
	return strings.Join(names, " ")
}

// patience returns for how long somebody is still waited for.
func (q *queues) patience(lock, who string) time.Duration {
	q.Helper()
	until, err := q.client.ZScore(q.Context(), "{"+lock+"}:queue", "+"+who).Result()
	if err == redis.Nil {
		until, err = q.client.ZScore(q.Context(), "{"+lock+"}:queue", "-"+who).Result()
	}
	require.NoError(q, err)
	now, err := q.client.Time(q.Context()).Result()
	require.NoError(q, err)
	return time.UnixMicro(-int64(until)).Sub(now)
}

// forget lets the time pass for which somebody is waited for.
func (q *queues) forget(lock, who string) {
	q.Helper()
	require.NoError(q, q.client.ZAdd(q.Context(), "{"+lock+"}:queue",
		redis.Z{Member: "+" + who, Score: -1}).Err())
}

// words returns what the inbox has heard since it was last asked.
func (q *queues) words() string {
	q.Helper()
	ctx, cancel := context.WithTimeout(q.Context(), 20*time.Second)
	defer cancel()
	require.NoError(q, q.client.Publish(ctx, "near", "end").Err())
	var words []string
	for {
		m, err := q.inbox.ReceiveMessage(ctx)
		require.NoError(q, err)
		if m.Payload == "end" {
			return strings.Join(words, ", ")
		}
		fields := strings.Fields(m.Payload)
		require.Len(q, fields, 3)
		sent, err := strconv.ParseInt(fields[2], 10, 64)
		require.NoError(q, err)
		requireNow(q.T, sent)
		words = append(words, fields[0]+" "+fields[1])
	}
}

func (q *queues) owner(lock string) string { return q.client.Get(q.Context(), lock).Val() }

func refusedBy(i int64, owner string, before, all int64) []any {
	if owner == "" {
		return []any{i, "", absent, "now", before, all}
	}
	return []any{i, owner, inSeconds(60), "now", before, all}
}

func (q *queues) equal(want, got any) {
	q.Helper()
	requireReply(q.T, want, got, nil, true)
}
