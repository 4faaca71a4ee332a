package redistest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
)

// Ports come from below the range that the system hands out for outgoing
// connections (32768 and up on Linux). A server that is down then finds its port
// free again, and a client that dials it meanwhile cannot be connected to itself.
const firstPort, lastPort = 16000, 32000

// port is one that is reserved for a server, whether it is up or down. The lock
// is a UDP socket on the same port: the kernel gives it to one process at a time,
// and takes it back when that process ends.
type port struct {
	number int
	lock   net.PacketConn // nil: nothing is reserved
}

// busDistance is how far above a node's port its cluster bus is, on every server
// that is not told otherwise. Before Redis 7.0 it cannot be told.
const busDistance = 10000

var errNoPort = errors.New("redistest: no free port on 127.0.0.1")

// takePort reserves a port below limit that nobody listens on. A stranger may
// still take it before the server does; the caller then tries the next one.
func takePort(limit int) (port, error) {
	for range 200 {
		if p, ok := reserve(firstPort + rand.IntN(limit-firstPort)); ok {
			return p, nil
		}
	}
	return port{}, errNoPort
}

// takeClusterPorts is takePort for a node of a cluster.
func takeClusterPorts() (own, bus port, err error) {
	for range 200 {
		if own, err = takePort(lastPort - busDistance); err != nil {
			break
		}
		var ok bool
		if bus, ok = reserve(own.number + busDistance); ok {
			return own, bus, nil
		}
		own.free()
	}
	return port{}, port{}, errNoPort
}

// reserve fails if somebody has reserved the port, or listens on it.
func reserve(number int) (port, bool) {
	p := port{number: number}
	var err error
	if p.lock, err = net.ListenPacket("udp", p.address()); err != nil {
		return port{}, false
	}
	l, err := net.Listen("tcp", p.address())
	if err != nil {
		p.free()
		return port{}, false
	}
	_ = l.Close()
	return p, true
}

// free gives the port up. It may be called twice.
func (p port) free() {
	if p.lock != nil {
		_ = p.lock.Close()
	}
}

func (p port) address() string { return fmt.Sprintf("127.0.0.1:%d", p.number) }
