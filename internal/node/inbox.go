package node

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// of silence; without an answer within as long again, the connection is given up
	pingAfter   = 3 * time.Second
	firstRetry  = 50 * time.Millisecond
	longestWait = 5 * time.Second // between two tries to subscribe
)

// Inbox is a subscription to one channel. It makes a new connection where the old one fails, until
// it is closed.
type Inbox struct {
	node    *Node
	channel string
	up      atomic.Bool
	ctx     context.Context
	cancel  context.CancelFunc

	receive func(payload string)
	changed func(err error)
}

// errNoSubscription is what a client that returns none is told to have said.
var errNoSubscription = errors.New("the client's Subscribe returns nil")

// Listen subscribes to a channel, in the background. receive gets each message. changed is told
// when the subscription is confirmed, with nil, also after an interruption in which messages may
// have been lost; and when it ends or cannot be had, with the reason. Both are called one after the
// other, without any lock held, and must not block. Listen returns nil if the node is closed.
func (n *Node) Listen(channel string, receive func(payload string),
	changed func(err error)) *Inbox {
	i := &Inbox{node: n, channel: channel, receive: receive, changed: changed}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.phase != open {
		return nil
	}
	n.probes++
	i.ctx, i.cancel = context.WithCancel(context.Background())
	go i.run()
	return i
}

// Up reports whether the subscription stands, as far as is known.
func (i *Inbox) Up() bool { return i.up.Load() }

// Close ends the subscription. It does not wait for what the client may be doing about it: see
// Node.Close.
func (i *Inbox) Close() { i.cancel() }

func (i *Inbox) run() {
	retry := firstRetry
	for i.ctx.Err() == nil {
		began := time.Now()
		err := i.listen()
		i.up.Store(false)
		if i.ctx.Err() != nil {
			break
		}
		i.changed(err)
		if time.Since(began) > longestWait {
			retry = firstRetry
		}
		pause := time.NewTimer(retry)
		select {
		case <-pause.C:
		case <-i.ctx.Done():
			pause.Stop()
		}
		retry = min(2*retry, longestWait)
	}
	i.cancel()
	i.node.mu.Lock()
	defer i.node.mu.Unlock()
	i.node.probes--
	i.node.checkIdleLocked()
}

// spent is a context that has ended. A subscription that has lost its connection makes a new one by
// itself, inside a read and under a mutex that Close takes; not under this context.
var spent = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// listen subscribes, and hands messages on for as long as the connection lasts.
func (i *Inbox) listen() error {
	sub := i.node.client.Subscribe(i.ctx)
	if sub == nil {
		return errNoSubscription
	}
	if err := sub.Subscribe(i.ctx, i.channel); err != nil {
		_ = sub.Close()
		return err
	}
	// A read does not end with its context: the end of the connection ends it. What Close says is
	// of no use to anybody.
	closed := make(chan struct{})
	stop := context.AfterFunc(i.ctx, func() {
		_ = sub.Close()
		close(closed)
	})
	defer func() {
		_ = sub.Close()
		if !stop() {
			<-closed
		}
	}()
	return i.receiveFrom(sub)
}

// receiveFrom hands on what comes until the connection fails.
func (i *Inbox) receiveFrom(sub *redis.PubSub) error {
	pinged := false
	for {
		message, err := sub.ReceiveTimeout(spent, pingAfter)
		switch message := message.(type) {
		case *redis.Subscription:
			i.up.Store(true)
			i.changed(nil)
		case *redis.Message:
			i.receive(message.Payload)
		case nil:
			if pinged || !i.Up() || !timedOut(err) {
				return err
			}
			if err := sub.Ping(spent); err != nil {
				return err
			}
			pinged = true
			continue
		}
		pinged = false
	}
}

func timedOut(err error) bool {
	var network net.Error
	return errors.As(err, &network) && network.Timeout()
}
