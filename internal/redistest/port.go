package redistest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// Ports come from below the range that the system hands out for outgoing
// connections (32768 and up on Linux). A server that is down then finds its port
// free again, and a client that dials it meanwhile cannot be connected to itself.
const firstPort, lastPort = 16000, 32000

// ports remembers what this process has given away, so that a server that is
// down does not lose its port to the next one started.
var ports = struct {
	mu    sync.Mutex
	taken map[int]bool // guarded by mu
}{taken: make(map[int]bool)}

// busDistance is how far above a node's port its cluster bus is, on every server
// that is not told otherwise. Before Redis 7.0 it cannot be told.
const busDistance = 10000

var errNoPort = errors.New("redistest: no free port on 127.0.0.1")

// takePort reserves a port below limit that nobody listens on. Another process may
// still take it before the server does; the caller then tries the next one.
func takePort(limit int) (int, error) {
	for range 200 {
		if port := firstPort + rand.IntN(limit-firstPort); reserve(port) {
			return port, nil
		}
	}
	return 0, errNoPort
}

// takeClusterPorts is takePort for a node of a cluster.
func takeClusterPorts() (port, busPort int, err error) {
	for range 200 {
		if port, err = takePort(lastPort - busDistance); err != nil {
			break
		}
		if reserve(port + busDistance) {
			return port, port + busDistance, nil
		}
		freePorts(port)
	}
	return 0, 0, errNoPort
}

func reserve(port int) bool {
	ports.mu.Lock()
	defer ports.mu.Unlock()
	if ports.taken[port] {
		return false
	}
	l, err := net.Listen("tcp", address(port))
	if err != nil {
		return false
	}
	_ = l.Close()
	ports.taken[port] = true
	return true
}

func freePorts(given ...int) {
	ports.mu.Lock()
	defer ports.mu.Unlock()
	for _, port := range given {
		delete(ports.taken, port)
	}
}

func address(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
