package redistest

import (
	"bytes"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// link is one client connection with its connection to the server.
type link struct {
	proxy     *Proxy
	client    *net.TCPConn
	server    *net.TCPConn
	drop      atomic.Pointer[drop] // set: the next reply is to be lost
	forgotten atomic.Bool          // see Proxy.Forget
	ended     [2]chan struct{}     // by direction; closed when the sender has closed or died
	once      sync.Once
	dead      chan struct{} // closed when nothing may be delivered any more
}

// chunk is what one read returned; without data it is the end of the stream.
type chunk struct {
	data []byte
	due  time.Time
}

// Enough to hold whatever a test leaves waiting. Beyond it the sender is slowed
// down, as by a full TCP window.
const queueLength = 4096

func newLink(p *Proxy, client, server *net.TCPConn) *link {
	return &link{
		proxy:  p,
		client: client,
		server: server,
		ended:  [2]chan struct{}{make(chan struct{}), make(chan struct{})},
		dead:   make(chan struct{}),
	}
}

// run moves bytes both ways until nothing more can be delivered. Reading and
// writing are goroutines of their own: a delay must not slow the reader down, and
// what has been read is delivered even after its sender has gone.
func (l *link) run() {
	toServer, toClient := make(chan chunk, queueLength), make(chan chunk, queueLength)
	l.proxy.spawn(func() { l.readRequests(toServer) })
	l.proxy.spawn(func() { l.readReplies(toClient) })
	l.proxy.spawn(func() { l.writeRequests(toServer) })
	l.writeReplies(toClient)
	l.end()
}

// end closes both sides, the client's in order: the last reply may still be on
// its way to it.
func (l *link) end() {
	l.once.Do(func() {
		close(l.dead)
		_ = l.client.Close()
		_ = l.server.Close()
	})
}

// abort resets both sides.
func (l *link) abort() {
	l.once.Do(func() {
		close(l.dead)
		reset(l.client)
		reset(l.server)
	})
}

func (l *link) readRequests(queue chan<- chunk) {
	l.read(l.client, requests, queue, func() bool { return false })
}

// readReplies loses the reply to a request that writeRequests has marked.
func (l *link) readReplies(queue chan<- chunk) {
	l.read(l.server, replies, queue, func() bool {
		d := l.drop.Load()
		if d == nil {
			return false
		}
		// Only the client's side is reset: the server is to finish in peace.
		reset(l.client)
		l.proxy.dropped(d)
		return true
	})
}

// read stamps what arrives with the time it is due. After the first loss the rest
// of the stream is lost too, and its end is withheld until the other side has
// ended as well: then nobody is left who could notice.
func (l *link) read(from *net.TCPConn, d direction, queue chan<- chunk, lose func() bool) {
	lost, buf := false, make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		f := l.proxy.fault(d)
		lost = lost || f.swallow || l.forgotten.Load() || err == nil && lose()
		if err != nil {
			break
		}
		if lost {
			if d == requests {
				l.proxy.swallowed.Add(int64(n))
			}
		} else if !l.send(queue,
			chunk{data: bytes.Clone(buf[:n]), due: time.Now().Add(f.delay)}) {
			break
		}
	}
	close(l.ended[d])
	if lost {
		select {
		case <-l.ended[1-d]:
		case <-l.dead:
		}
	}
	f := l.proxy.fault(d)
	l.send(queue, chunk{due: time.Now().Add(f.delay)})
}

func (l *link) send(queue chan<- chunk, c chunk) bool {
	select {
	case queue <- c:
		return true
	case <-l.dead:
		return false
	}
}

// writeRequests ends with a half-close: the server still gets to read and answer
// what is before it.
func (l *link) writeRequests(queue <-chan chunk) {
	var before []byte
	l.write(requests, queue, func(data []byte) error {
		// Marked before the bytes go out, so that the reply cannot be faster.
		if l.drop.Load() == nil {
			if d := l.proxy.matchDrop(before, data); d != nil {
				l.drop.Store(d)
			}
			before = data
		}
		_, err := l.server.Write(data)
		return err
	})
	_ = l.server.CloseWrite()
}

func (l *link) writeReplies(queue <-chan chunk) {
	l.write(replies, queue, func(data []byte) error {
		_, err := l.client.Write(data)
		return err
	})
}

// write delivers what is due until the stream ends or the link is dead. When the
// receiver has gone the rest is thrown away, so that the sender is not blocked.
func (l *link) write(d direction, queue <-chan chunk, deliver func([]byte) error) {
	defer l.proxy.delivered(l, d)
	gone := false
	for {
		select {
		case c := <-queue:
			if !l.await(d, c.due) || c.data == nil {
				return
			}
			gone = gone || deliver(c.data) != nil
			l.proxy.delivered(l, d)
		case <-l.dead:
			return
		}
	}
}

// await returns when a chunk may be delivered: it is due, and it is the link's
// turn. It reports false when the link has died first.
func (l *link) await(d direction, due time.Time) bool {
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.dead:
		return false
	}
	for {
		turn, changed := l.proxy.mayDeliver(l, d)
		if turn {
			return true
		}
		select {
		case <-changed:
		case <-l.dead:
			return false
		}
	}
}
