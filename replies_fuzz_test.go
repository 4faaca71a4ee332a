//go:build go1.25

package redlock_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/locktest"
)

// FuzzReplies lets nodes answer what they like, and checks what is made of it.
func FuzzReplies(f *testing.F) {
	nameScripts(f)
	seeds := [][]byte{
		{}, []byte("0"), []byte("\x00\x07\x07\x07"), []byte("\x08\x00\x08\x01\x08\x01\x00"),
		[]byte("\x0a\x0a\x0a\x0a\x0a\x0a"),
		[]byte("\x0d\x00\x0d\x00\x0d\x00"), []byte("\x0d\x01\x0d\x01\x0d\x01"),
		[]byte("\x0d\x04\x00\x0d\x04\x00"),
		[]byte("\x0e\x01\x08\x0e\x01\x08"), []byte("\x0b\x01\x07\x0b\x01\x07\x0b\x01\x0a"),
		[]byte("\xc0\x80\x40\x00\xcd\x01"),
	}
	for shape := range byte(32) {
		for _, seed := range seeds {
			f.Add(shape|shape<<5, uint16(0x1b2d)*uint16(shape+1), seed)
		}
	}
	// the token, on a key that does not exist
	f.Add(byte(0), uint16(4), []byte{0x0b, 6, 2, 3, 6, 1, 5})
	// an extension is answered with another number than 1
	f.Add(byte(0), uint16(32), []byte{0, 0x0b, 1, 2})
	// a renewal that was on its way denies the lock
	f.Add(byte(0x3d), uint16(17906), []byte("\v\x00\x00\x00\x80I70XX00A00"))
	f.Fuzz(func(t *testing.T, shape byte, course uint16, said []byte) {
		synctest.Test(t, func(t *testing.T) { babbleAway(t, shape, course, said) })
	})
}

// babbleAway runs one course of events. shape says what nodes there are, and said is dealt out to
// them in turn.
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
