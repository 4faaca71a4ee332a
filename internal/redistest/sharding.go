package redistest

import (
	"bufio"
	"bytes"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// Sharding is a proxy that looks like one server and spreads the keys over
// several, as Envoy and twemproxy do. A command goes to the server of its first
// key, a script to that of the first of its KEYS, whatever other keys it has: no
// server complains about keys that are not its own. Of a key with a hash tag
// only the tag counts, as in Redis Cluster.
//
// Commands about the connection (HELLO, AUTH, CLIENT) go to all servers, others
// without a key to the first one, SCRIPT among them. Transactions and
// subscriptions are refused, since they are not about one key.
type Sharding struct {
	front
	servers []*Server
}

// StartSharding runs a proxy in front of the servers until the end of the test.
func StartSharding(tb testing.TB, servers ...*Server) *Sharding {
	tb.Helper()
	s := &Sharding{servers: servers}
	if err := s.open(s.serve); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { closeOrFail(tb, s) })
	return s
}

// Client returns a new go-redis client of the proxy with stock options.
func (s *Sharding) Client(tb testing.TB) *redis.Client {
	tb.Helper()
	return newClient(tb, s.Addr())
}

// ServerOf returns the server that a key belongs to.
func (s *Sharding) ServerOf(key string) *Server { return s.servers[s.shard(key)] }

func (s *Sharding) shard(key string) int {
	if _, after, ok := strings.Cut(key, "{"); ok {
		if tag, _, ok := strings.Cut(after, "}"); ok && tag != "" {
			key = tag
		}
	}
	return int(crc32.ChecksumIEEE([]byte(key)) % uint32(len(s.servers)))
}

// answer is what a client is to be told next.
type answer struct {
	from    *bufio.Reader // the server that will say it; nil: text is the answer
	text    string
	discard bool // read from the server, and told nobody
}

// serve passes a client's commands on and the replies back. Each server answers
// in order, so the replies have the order of the commands if each is taken from
// the server that its command went to.
func (s *Sharding) serve(client net.Conn) {
	servers, replies := make([]net.Conn, len(s.servers)), make([]*bufio.Reader, len(s.servers))
	for i, server := range s.servers {
		conn, err := s.dial(server.Addr())
		if err != nil {
			return
		}
		defer s.drop(conn)
		servers[i], replies[i] = conn, bufio.NewReader(conn)
	}

	answers := make(chan answer, queueLength)
	defer close(answers)
	s.spawn(func() { reply(client, answers) })
	for requests := bufio.NewReader(client); ; {
		raw, args, err := readCommand(requests)
		if err != nil {
			return
		}
		to, refusal := s.route(args)
		if refusal != "" {
			answers <- answer{text: "-" + refusal + "\r\n"}
			continue
		}
		for i, shard := range to {
			if _, err := servers[shard].Write(raw); err != nil {
				return
			}
			answers <- answer{from: replies[shard], discard: i > 0}
		}
	}
}

// reply tells the client one answer after the other. After an error it only
// empties the queue.
func reply(client net.Conn, answers <-chan answer) {
	failed := false
	for a := range answers {
		if failed {
			continue
		}
		frame, err := []byte(a.text), error(nil)
		if a.from != nil {
			frame, err = readReply(a.from)
		}
		if err == nil && !a.discard {
			_, err = client.Write(frame)
		}
		if err != nil {
			_ = client.Close() // nobody reads its commands any more
			failed = true
		}
	}
}

// route tells which servers get a command, or why none does.
func (s *Sharding) route(args []string) (shards []int, refusal string) {
	key := ""
	switch name := strings.ToLower(args[0]); name {
	case "hello", "auth", "client", "select", "reset", "quit":
		for i := range s.servers {
			shards = append(shards, i)
		}
		return shards, ""
	case "multi", "exec", "watch", "subscribe", "psubscribe", "ssubscribe", "monitor":
		return nil, fmt.Sprintf("ERR unsupported command '%s'", name)
	case "ping", "echo", "time", "info", "command", "config", "script", "cluster", "publish",
		"dbsize":
		return []int{0}, ""
	case "eval", "evalsha", "eval_ro", "evalsha_ro", "fcall", "fcall_ro":
		if len(args) > 3 && args[2] != "0" {
			key = args[3]
		}
	default:
		if len(args) > 1 {
			key = args[1]
		}
	}
	if key == "" {
		return []int{0}, ""
	}
	return []int{s.shard(key)}, ""
}

// readCommand reads an array of strings, and returns its bytes too.
func readCommand(r *bufio.Reader) (raw []byte, args []string, err error) {
	raw, n, err := readHeader(r, '*')
	if err != nil {
		return nil, nil, err
	}
	for range n {
		header, length, err := readHeader(r, '$')
		if err != nil {
			return nil, nil, err
		}
		data := make([]byte, length+2)
		if _, err := io.ReadFull(r, data); err != nil {
			return nil, nil, err
		}
		raw = append(append(raw, header...), data...)
		args = append(args, string(data[:length]))
	}
	if len(args) == 0 {
		return nil, nil, fmt.Errorf("redistest: empty command %q", raw)
	}
	return raw, args, nil
}

// readHeader reads a line of the given type with a number.
func readHeader(r *bufio.Reader, kind byte) (line []byte, n int, err error) {
	line, err = r.ReadBytes('\n')
	if err != nil {
		return nil, 0, err
	}
	if line[0] != kind {
		return nil, 0, fmt.Errorf("redistest: %q does not begin with %c", line, kind)
	}
	n, err = strconv.Atoi(string(bytes.TrimSpace(line[1:])))
	return line, n, err
}

// readReply reads one reply of either protocol, with everything in it.
func readReply(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadBytes('\n')
	if err != nil {
		return nil, err
	}
	number := func() (n int) {
		n, err = strconv.Atoi(string(bytes.TrimSpace(line[1:])))
		return n
	}
	parts := 0
	switch line[0] {
	case '$', '=', '!': // a string with its length; -1 is nil
		if n := number(); err == nil && n >= 0 {
			data := make([]byte, n+2)
			_, err = io.ReadFull(r, data)
			line = append(line, data...)
		}
	case '*', '~', '>': // a list
		parts = number()
	case '%': // a map
		parts = 2 * number()
	case '|': // attributes, in front of the reply
		parts = 2*number() + 1
	}
	for ; parts > 0 && err == nil; parts-- {
		var part []byte
		part, err = readReply(r)
		line = append(line, part...)
	}
	return line, err
}
