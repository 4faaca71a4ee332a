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

// takePort reserves a port that nobody listens on. Another process may still
// take it before redis-server does; the caller then tries the next one.
func takePort() (int, error) {
	ports.mu.Lock()
	defer ports.mu.Unlock()
	for range 200 {
		port := firstPort + rand.IntN(lastPort-firstPort)
		if ports.taken[port] {
			continue
		}
		l, err := net.Listen("tcp", address(port))
		if err != nil {
			continue
		}
		_ = l.Close()
		ports.taken[port] = true
		return port, nil
	}
	return 0, errors.New("redistest: no free port on 127.0.0.1")
}

func freePorts(given ...int) {
	ports.mu.Lock()
	defer ports.mu.Unlock()
	for _, port := range given {
		delete(ports.taken, port)
	}
}

func address(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
