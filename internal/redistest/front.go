package redistest

import (
	"errors"
	"net"
	"sync"
	"time"
)

// front is a port on loopback and the connections of those who connect to it.
type front struct {
	listener net.Listener
	wg       sync.WaitGroup // every goroutine of the front

	mu     sync.Mutex
	conns  map[net.Conn]struct{} // guarded by mu
	closed bool                  // guarded by mu
}

// open listens on a free port. serve gets each connection on a goroutine of its
// own; the connection is closed when it returns.
func (f *front) open(serve func(client net.Conn)) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	f.listener, f.conns = l, make(map[net.Conn]struct{})
	f.spawn(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return // closed
			}
			f.spawn(func() {
				if f.keep(client) {
					serve(client)
					f.drop(client)
				}
			})
		}
	})
	return nil
}

// spawn runs fn on a goroutine that Close waits for.
func (f *front) spawn(fn func()) {
	f.wg.Add(1)
	go func() {
		defer f.wg.Done()
		fn()
	}()
}

// dial connects to a server. drop closes the connection, and so does Close.
func (f *front) dial(addr string) (net.Conn, error) {
	conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return nil, err
	}
	if !f.keep(conn) {
		return nil, errors.New("redistest: closed")
	}
	return conn, nil
}

// keep notes a connection for Close to close. It closes it and reports false if
// Close has been called.
func (f *front) keep(conn net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		_ = conn.Close()
		return false
	}
	f.conns[conn] = struct{}{}
	return true
}

func (f *front) drop(conn net.Conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.conns, conn)
	_ = conn.Close()
}

// Addr is where clients connect.
func (f *front) Addr() string { return f.listener.Addr().String() }

// Close ends all connections and waits for the goroutines.
func (f *front) Close() error {
	f.mu.Lock()
	f.closed = true
	_ = f.listener.Close()
	for conn := range f.conns {
		_ = conn.Close()
	}
	f.mu.Unlock()
	f.wg.Wait()
	return nil
}
