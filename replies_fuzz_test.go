//go:build go1.25

package redlock_test

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/locktest"
)

// tape is what the fuzzer lets a node say, byte by byte. Behind its end there are zeros, of which healthy answers are made.
type tape []byte

func (t *tape) next() byte {
	if len(*t) == 0 {
		return 0
	}
	b := (*t)[0]
	*t = (*t)[1:]
	return b
}

// pick returns one of the choices.
func pick[T any](t *tape, choices ...T) T { return choices[int(t.next())%len(choices)] }

// value is anything that go-redis can find in a reply.
func (t *tape) value(depth int) any {
	switch b := t.next() % 10; {
	case b == 0:
		return nil
	case b < 3:
		return pick[int64](t, 0, 1, 2, 3, -1, -2, -3, math.MaxInt64, math.MinInt64, 1<<32+1, math.MinInt64/1_000_000-1, math.MaxInt32)
	case b == 3:
		return pick(t, "", "1", "OK", stranger, "\xff\x00", strings.Repeat("long", 99), adopted)
	case b == 4:
		return pick[any](t, 1.0, math.NaN(), math.Inf(1), true, false, big.NewInt(1), map[any]any{int64(1): int64(1)}, uint64(1), int(1))
	case b == 5:
		return pick[error](t, serverError("ERR nested"), serverError("READONLY nested"))
	default:
		list := make([]any, 0, 4)
		for n := t.next() % 8; depth > 0 && n > 0; n-- {
			list = append(list, t.value(depth-1))
		}
		return list
	}
}

// serverError is an error that comes from a server.
type serverError string

func (e serverError) Error() string { return string(e) }
func (serverError) RedisError()     {}

// babbler is a node whose replies come from a tape.
type babbler struct {
	tape tape
	slow bool // whether replies may take their time

	mu    sync.Mutex
	calls []babble
	said  *atomic.Int64 // answers of all nodes
}

// babble is one call of a script and its answer.
type babble struct {
	number int64 // of the answer, among those of all nodes
	at     time.Time
	script string
	keys   []string
	args   []string
	reply  any
	err    error
}

// token is whose call it is. An acquire that gives a key back may have a number in front of it.
func (c *babble) token() string { return bare(c.args[0]) }

// isCut tells whether the call shortens a lock.
func (c *babble) isCut() bool { return c.script == "extend" && c.args[3] == "cut" }

// bare is the token in a value that may have the number of a shortening in front of it.
func bare(value string) string {
	if number, token, found := strings.Cut(value, "~"); found && number != "" && strings.Trim(number, "0123456789") == "" {
		return token
	}
	return value
}

// slowest is how long an answer takes at most: longer than the default node timeout.
const slowest = 1700 * time.Millisecond

// argsOf is how many arguments each script takes: first without those about queues, then where the keys have queues.
var argsOf = map[string][]int{"acquire": {3, 2}, "extend": {4}, "release": {2, 1, 3}, "inspect": {0, 2}}

func (n *babbler) DialHook(redis.DialHook) redis.DialHook { return nil }

func (n *babbler) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(_ context.Context, cmd redis.Cmder) error {
		n.answer(cmd.(*redis.Cmd))
		return cmd.Err()
	}
}

func (n *babbler) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(_ context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			n.answer(cmd.(*redis.Cmd))
		}
		return nil
	}
}

// answer says something to a script. The first byte says what: mostly something sensible, so that it goes on from there.
func (n *babbler) answer(cmd *redis.Cmd) {
	c := callIn(cmd)
	n.mu.Lock()
	b := n.tape.next()
	switch kind := b % 16; {
	case kind < 13:
		c.reply = n.reply(&c, kind)
	case kind == 13:
		c.err = pick[error](&n.tape, redis.Nil, io.EOF, serverError("ERR no"), serverError("LOADING"), serverError("NOSCRIPT"), context.DeadlineExceeded)
	default:
		c.reply = n.tape.value(3)
	}
	n.mu.Unlock()
	if err, isError := c.reply.(error); isError {
		c.reply, c.err = nil, err
	}
	if n.slow { // not by a receive from time.After: in a bubble that can crash the race detector (go.dev/issue/78156)
		time.Sleep([]time.Duration{0, time.Millisecond, 600 * time.Millisecond, slowest}[b>>6])
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	c.number, c.at = n.said.Add(1), time.Now()
	n.calls = append(n.calls, c)
	cmd.SetVal(c.reply)
	if c.err != nil {
		cmd.SetErr(c.err)
	}
}

// reply is what the script may answer, or anything.
func (n *babbler) reply(c *babble, kind byte) any {
	switch {
	case kind < 7:
		return n.yes(c)
	case kind == 7:
		return []any{1 + int64(n.tape.next())%int64(len(c.keys))}
	case kind < 10:
		return []any{1 + int64(n.tape.next())%int64(len(c.keys)), pick(&n.tape, stranger, ""), pick[int64](&n.tape, 5000, -1, 0)}
	case kind == 10:
		return pick[error](&n.tape, serverError("OOM command not allowed"), serverError("READONLY"), serverError(""))
	default:
		return n.tape.value(3)
	}
}

// yes is what the script answers where all is well; for inspect it is one of several truths.
func (n *babbler) yes(c *babble) any {
	if c.script != "inspect" {
		return int64(1)
	}
	var list []any
	for range c.keys {
		list = append(list, pick(&n.tape, []any{adopted, int64(90_000)}, []any{adopted, int64(-1)}, []any{nil, int64(-2)},
			[]any{stranger, int64(70_000)}, []any{adopted, int64(1)}, []any{"2~" + adopted, int64(80_000)})...)
	}
	return list
}

// adopted is the token that is looked for.
const adopted = "the token that was handed over"

// callIn takes a command to pieces.
func callIn(cmd *redis.Cmd) babble {
	var args []string
	for _, a := range cmd.Args() {
		args = append(args, fmt.Sprint(a))
	}
	c := babble{script: scriptNames[args[1]]}
	keys, err := strconv.Atoi(args[2])
	c.keys, c.args = args[3:3+keys], args[3+keys:]
	counts, known := argsOf[c.script]
	switch {
	case err != nil || keys < 1 || !known || !slices.Contains(counts, len(c.args)):
		panic(fmt.Sprint("not one of our scripts: ", args))
	case len(c.args) != counts[0]:
		c.keys, c.args = c.keys[:keys/2], append(c.args, "0")[:counts[0]] // a release may say nothing of a shortening
	}
	return c
}

// scriptNames has the scripts' names by text and by digest.
var scriptNames = map[string]string{}

func nameScripts(f *testing.F) {
	for name := range argsOf {
		source := scriptSource(f, name)
		digest := sha1.Sum([]byte(source))
		scriptNames[source], scriptNames[hex.EncodeToString(digest[:])] = name, name
	}
}

// vote is what an answer means.
type vote int

const (
	votesYes vote = iota
	votesNo
	votesNothing
)

// means tells what the answer to a request means, from what the scripts' headers say.
func (c *babble) means() vote {
	list, isList := c.reply.([]any)
	number, isNumber := c.reply.(int64)
	switch {
	case c.err != nil:
		return votesNothing
	case c.script != "inspect" && isNumber && number == 1:
		return votesYes
	case c.script == "inspect" && isList && len(list) == 2*len(c.keys):
		for i := 0; i < len(list); i += 2 {
			if !okPair(list[i], list[i+1]) {
				return votesNothing
			}
		}
		return votesYes
	case c.script != "inspect" && isList && (len(list) == 1 || len(list) == 3):
		i, ok := list[0].(int64)
		if !ok || i < 1 || i > int64(len(c.keys)) || len(list) == 3 && (list[1] == nil || !okPair(list[1], list[2])) {
			return votesNothing
		}
		return votesNo
	}
	return votesNothing
}

// okPair tells whether these can be a key's value and time to live.
func okPair(owner, pttl any) bool {
	ms, ok := pttl.(int64)
	if owner == nil {
		return ok && ms == -2
	}
	_, isText := owner.(string)
	return isText && ok && ms >= -1
}

// harmless tells whether the answer proves that the node has not run the script to any effect.
func (c *babble) harmless() bool {
	var failure redis.Error
	if c.err != nil {
		return errors.As(c.err, &failure) && c.err != redis.Nil
	}
	return c.means() == votesNo
}

// babel is a Locker among nodes that say what they like.
type babel struct {
	*testing.T
	l      *redlock.Locker
	nodes  []*babbler
	said   atomic.Int64 // answers of all nodes
	slow   bool
	asked  []string // keys
	quorum int

	renewing bool
}

// now returns the number of the latest answer, when those are in that nobody has waited for.
func (b *babel) now() int64 {
	synctest.Wait()
	return b.said.Load()
}

// then returns the number of the latest answer that was given before t.
func (b *babel) then(t time.Time) (latest int64) {
	for _, n := range b.nodes {
		n.mu.Lock()
		for _, c := range n.calls {
			if c.at.Before(t) {
				latest = max(latest, c.number)
			}
		}
		n.mu.Unlock()
	}
	return latest
}

// since returns what a node has answered to a script after the answer with the given number.
func (b *babel) since(start int64, node int, script string, match func(c *babble) bool) (calls []babble) {
	n := b.nodes[node]
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.calls {
		if c.script == script && c.number > start && (match == nil || match(&c)) {
			calls = append(calls, c)
		}
	}
	return calls
}

// count counts the nodes whose answers since then say yes for all keys, and those of which one says no.
func (b *babel) count(start int64, script string, match func(c *babble) bool) (yes, no, answered int) {
	for i := range b.nodes {
		granted, refused := map[string]bool{}, false
		for _, c := range b.since(start, i, script, match) {
			switch c.means() {
			case votesYes:
				for _, key := range c.keys {
					granted[key] = true
				}
			case votesNo:
				refused = true
			}
		}
		if len(granted) == len(b.asked) {
			yes++
		}
		if refused {
			no++
		}
		if refused || len(granted) > 0 {
			answered++
		}
	}
	return yes, no, answered
}

// explained checks an error that the nodes' answers have led to.
func (b *babel) explained(err error) {
	b.Helper()
	require.ErrorContains(b, err, "redlock: ")
	require.True(b, errors.Is(err, redlock.ErrHeld) || errors.Is(err, redlock.ErrNoQuorum) || errors.Is(err, redlock.ErrLost) ||
		errors.Is(err, redlock.ErrReleased), err)
	var q *redlock.QuorumError
	if !errors.As(err, &q) {
		return
	}
	require.Less(b, q.Got, q.Need)
	for _, n := range q.Nodes {
		require.Error(b, n.Err)
		require.NotEqual(b, redis.Nil, n.Err, "nothing is no error")
	}
}

// settle lets everything happen that is still to come.
func settle() {
	time.Sleep(20 * time.Second)
	synctest.Wait()
}

// clean checks that every node that may have something of a token was told to delete it afterwards.
func (b *babel) clean(token string) {
	b.Helper()
	settle()
	for i := range b.nodes {
		for _, c := range b.since(0, i, "acquire", nil) {
			if c.token() != token || c.harmless() {
				continue
			}
			deleted := map[string]bool{}
			for _, d := range b.since(c.number, i, "release", func(d *babble) bool { return d.token() == token }) {
				for _, key := range d.keys {
					deleted[key] = true
				}
			}
			for _, key := range c.keys {
				require.True(b, deleted[key], "%q stays on node %d after %v, %v", key, i, c.reply, c.err)
			}
		}
	}
}

// acquire tries to take the resources and returns the handle, if the nodes' answers make one.
func (b *babel) acquire(resources []string, opts ...redlock.AcquireOption) *redlock.Handle {
	b.Helper()
	start := b.now()
	h, err := b.l.TryAcquireMulti(b.Context(), resources, opts...)
	yes, _, answered := b.count(start, "acquire", nil)
	if err == nil {
		require.GreaterOrEqual(b, yes, b.quorum, "a lock without a quorum")
		return h
	}
	require.Nil(b, h)
	b.explained(err)
	require.False(b, !b.slow && yes >= b.quorum, "a quorum without a lock: %v", err)
	require.False(b, errors.Is(err, redlock.ErrHeld) && answered < b.quorum, "too few have answered: %v", err)
	for i := range b.nodes {
		for _, c := range b.since(start, i, "acquire", nil) {
			b.clean(c.token())
		}
	}
	return nil
}

// extend extends the lock to ttl.
func (b *babel) extend(h *redlock.Handle, ttl time.Duration, shorter bool) {
	b.Helper()
	start, before := b.now(), h.Err()
	denials := start
	if b.renewing { // a renewal may be on its way, and have some of its answers
		denials = b.then(time.Now().Add(-2 * slowest))
	}
	until := h.ValidUntil()
	err := h.Extend(b.Context(), ttl)
	yes, _, _ := b.count(start, "extend", func(c *babble) bool { return !c.isCut() })
	yesCut, _, _ := b.count(start, "extend", (*babble).isCut)
	_, no, _ := b.count(denials, "extend", nil) // who has denied the lock is not asked to shorten it, and counts there too
	switch {
	case err == nil:
		require.NoError(b, before)
		require.GreaterOrEqual(b, yes, b.quorum, "extended without a quorum")
		require.True(b, !shorter || yesCut >= b.quorum, "shortened without a quorum")
		require.False(b, h.ValidUntil().After(time.Now().Add(ttl)))
	case errors.Is(err, redlock.ErrLost):
		fatal := len(b.nodes) - b.quorum + 1
		require.True(b, before != nil || no >= fatal, "lost too soon: %v", err)
		require.Equal(b, redlock.ErrLost, h.Err())
	default:
		b.explained(err)
		require.NoError(b, h.Err())
		require.False(b, !b.renewing && h.ValidUntil().After(until), "the lease is what it was, or shorter")
	}
}

// release gives the lock back.
func (b *babel) release(h *redlock.Handle) {
	b.Helper()
	start, before := b.now(), h.Err()
	err := h.Release(b.Context())
	_, no, answered := b.count(start, "release", nil)
	fatal := len(b.nodes) - b.quorum + 1
	switch {
	case err == nil:
		require.NoError(b, before)
		require.GreaterOrEqual(b, answered, b.quorum, "too few have answered")
	case errors.Is(err, redlock.ErrLost):
		require.True(b, before != nil || no >= fatal, err)
	default:
		b.explained(err)
	}
	require.Equal(b, err, h.Release(b.Context()))
	b.clean(h.Token())
}

// adopt continues a lock.
func (b *babel) adopt(resources []string) {
	b.Helper()
	start, began := b.now(), time.Now()
	h, err := b.l.Adopt(b.Context(), resources, adopted)
	var kept []time.Duration
	for i := range b.nodes {
		least, found := time.Duration(math.MaxInt64), 0
		for _, c := range b.since(start, i, "inspect", nil) {
			list, _ := c.reply.([]any)
			for k := 0; c.means() == votesYes && k < len(list); k += 2 {
				if ms := list[k+1].(int64); list[k] != nil && bare(list[k].(string)) == adopted {
					found++
					if ms >= 0 && ms < math.MaxInt64/1_000_000 {
						least = min(least, time.Duration(ms)*time.Millisecond)
					}
				}
			}
		}
		if found >= len(b.asked) {
			kept = append(kept, least)
		}
	}
	slices.Sort(kept)
	if err != nil {
		require.Nil(b, h)
		b.explained(err)
		return
	}
	require.GreaterOrEqual(b, len(kept), b.quorum, "adopted without a quorum")
	if most := kept[len(kept)-b.quorum]; most < tenYears {
		require.False(b, h.ValidUntil().After(began.Add(most)), "trusted for longer than it is kept")
	}
	b.release(h)
}

// look asks who has a resource.
func (b *babel) look(resource string) {
	b.Helper()
	start := b.now()
	locked, err := b.l.IsLocked(b.Context(), resource)
	synctest.Wait()
	answered, owners, most := 0, map[string]int{}, 0
	for i := range b.nodes {
		for _, c := range b.since(start, i, "inspect", nil) {
			if c.means() == votesYes {
				answered++
				if value := c.reply.([]any)[0]; value != nil {
					owner := bare(value.(string))
					owners[owner]++
					most = max(most, owners[owner])
				}
			}
		}
	}
	mayBe := most+len(b.nodes)-answered >= b.quorum
	switch {
	case err != nil:
		b.explained(err)
	case !locked:
		require.False(b, mayBe, "not locked, but %d of %d nodes name one owner and %d have answered", most, len(b.nodes), answered)
	case !b.slow:
		require.True(b, mayBe, "locked, but %d of %d nodes name one owner and %d have answered", most, len(b.nodes), answered)
	}
}

// FuzzReplies lets nodes answer what they like, and checks what is made of it.
func FuzzReplies(f *testing.F) {
	nameScripts(f)
	seeds := [][]byte{
		{}, []byte("0"), []byte("\x00\x07\x07\x07"), []byte("\x08\x00\x08\x01\x08\x01\x00"), []byte("\x0a\x0a\x0a\x0a\x0a\x0a"),
		[]byte("\x0d\x00\x0d\x00\x0d\x00"), []byte("\x0d\x01\x0d\x01\x0d\x01"), []byte("\x0d\x04\x00\x0d\x04\x00"),
		[]byte("\x0e\x01\x08\x0e\x01\x08"), []byte("\x0b\x01\x07\x0b\x01\x07\x0b\x01\x0a"), []byte("\xc0\x80\x40\x00\xcd\x01"),
	}
	for shape := range byte(32) {
		for _, seed := range seeds {
			f.Add(shape|shape<<5, uint16(0x1b2d)*uint16(shape+1), seed)
		}
	}
	f.Add(byte(0), uint16(4), []byte{0x0b, 6, 2, 3, 6, 1, 5})                // the token, on a key that does not exist
	f.Add(byte(0), uint16(32), []byte{0, 0x0b, 1, 2})                        // an extension is answered with another number than 1
	f.Add(byte(0x3d), uint16(17906), []byte("\v\x00\x00\x00\x80I70XX00A00")) // a renewal that was on its way denies the lock
	f.Fuzz(func(t *testing.T, shape byte, course uint16, said []byte) {
		synctest.Test(t, func(t *testing.T) { babbleAway(t, shape, course, said) })
	})
}

// babbleAway runs one course of events. shape says what nodes there are, and said is dealt out to them in turn.
func babbleAway(t *testing.T, shape byte, course uint16, said []byte) {
	count := 1 + int(shape)%5
	b := &babel{T: t, slow: shape&0x20 != 0, quorum: count/2 + 1}
	nodes := make([]redlock.Node, count)
	for i := range nodes {
		n := &babbler{slow: b.slow, said: &b.said}
		for k := i; k < len(said); k += count {
			n.tape = append(n.tape, said[k])
		}
		client := redis.NewClient(&redis.Options{Addr: fmt.Sprintf("127.0.0.1:%d", i+1)})
		client.AddHook(n)
		defer func() { require.NoError(t, client.Close()) }()
		b.nodes = append(b.nodes, n)
		if nodes[i] = client; shape&0x80 != 0 {
			nodes[i] = locktest.OnePerSlot{Client: client}
		}
	}
	var err error
	b.l, err = redlock.New(nodes, redlock.WithTTL(10*time.Minute))
	require.NoError(t, err)
	defer func() { require.NoError(t, b.l.Close()) }()

	resources := []string{"a", "b", "{a}c", "d"}[:1+course%4]
	for _, r := range resources {
		b.asked = append(b.asked, lockKey(r))
	}
	if course&4 != 0 {
		b.adopt(resources)
	}
	if course&8 != 0 {
		b.asked = b.asked[:1]
		b.look("a")
		for _, r := range resources[1:] {
			b.asked = append(b.asked, lockKey(r))
		}
	}
	b.renewing = course&16 != 0
	h := b.acquire(resources, redlock.WithAutoRenewal(b.renewing))
	if h == nil {
		return
	}
	for rest := course >> 5; rest > 0; rest >>= 2 {
		switch rest & 3 {
		case 1:
			b.extend(h, 20*time.Minute, false)
		case 2:
			b.extend(h, 5*time.Minute, time.Until(h.ValidUntil()) > 5*time.Minute)
		case 3:
			time.Sleep(100 * time.Second) // and a renewal, perhaps
		}
	}
	b.release(h)
}
