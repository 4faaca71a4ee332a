package node

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// A master that has restarted may have forgotten locks that it granted, with persistence too. So a
// script may have a guard: a master is told its text only when it has been up for that long. Every
// restart empties the cache of scripts, so a master that knows the script has been found worthy
// since, by some client. Asking costs nothing as long as it does; one that does not answers
// NOSCRIPT.
//
// The question how long the master has been up and the text that it is told thereupon go over one
// connection, which no restart survives. On two, the text could reach the process after the one
// that has answered, and that would be let in by all clients at once.
//
// A promoted replica has been up for long, and may have missed what its master had confirmed. INFO
// tells of such a past, and not when it ended. So a Node must have seen such a master for the
// guard's time: the identity of its replication changes with each promotion, and a master that has
// the same as then has been a master all the while.

// rounding is added to the guard's time: a server counts its uptime in whole seconds, from and to
// seconds that it rounds.
const rounding = time.Second

// Quarantine is the answer of a master that is not told a guarded script yet.
type Quarantine struct {
	Up       time.Duration // how long it has been up, or how long this Node has seen it as a master
	Left     time.Duration // until it will be told
	Promoted bool          // it may be a replica that was promoted
}

func (q *Quarantine) Error() string {
	up, left := q.Up.Round(time.Second), max(time.Second, q.Left.Round(time.Second))
	if q.Promoted {
		return fmt.Sprintf("was perhaps promoted, seen as a master for %d s, has no vote for "+
			"%d s more", up/time.Second, left/time.Second)
	}
	return fmt.Sprintf("restarted %d s ago, has no vote for %d s more", up/time.Second,
		left/time.Second)
}

// RedisError says that the master has answered, and that nothing is wrong with the connection.
func (q *Quarantine) RedisError() {}

// Unguardable is the answer of a master of which a guard cannot tell what it has to know. Waiting
// does not help.
type Unguardable struct{ Reason string }

func (e *Unguardable) Error() string { return "the restart guard gives it no vote: " + e.Reason }

// RedisError says that the master has answered.
func (e *Unguardable) RedisError() {}

// errReplica is what a replica answers to scripts that it knows.
var errReplica error = reply("READONLY the node is a replica")

// reply is an error of the server's.
type reply string

func (r reply) Error() string { return string(r) }
func (r reply) RedisError()   {}

// sighting is since when a master has been seen that may be a promoted replica.
type sighting struct {
	identity string // of the process and its replication
	since    time.Time
}

// subject is what is decided once for all calls of a batch.
type subject struct {
	master *redis.Client // of a Redis Cluster
	script *Script
}

// admit tells the masters of some commands their guarded scripts. It returns the commands to be
// sent again; the others have their answer.
func (n *Node) admit(ctx context.Context, commands []command) []command {
	verdicts := make(map[subject]error)
	return which(commands, func(c *command) bool {
		master, err := n.masterOf(ctx, c.call)
		if err == nil {
			s := subject{master, c.call.Script}
			verdict, known := verdicts[s]
			if !known {
				verdict = n.tellGuarded(ctx, s)
				verdicts[s] = verdict
			}
			err = verdict
		}
		if err != nil {
			c.cmd.SetErr(err)
		}
		return err == nil
	})
}

// masterOf returns the master for a call's keys; nil for a plain server.
func (n *Node) masterOf(ctx context.Context, c *Call) (*redis.Client, error) {
	if n.routes == nil || len(c.Keys) == 0 {
		return nil, nil
	}
	return n.routes.masters.MasterForKey(ctx, c.Keys[0])
}

// tellGuarded tells a master a script's text, or says why not.
func (n *Node) tellGuarded(ctx context.Context, s subject) error {
	conn, addr, ok := n.connection(s.master)
	if !ok {
		return &Unguardable{"its client cannot keep to one connection: it has no method Conn"}
	}
	defer conn.Close()
	asked := time.Now()
	pipe := conn.Pipeline()
	server, replication := pipe.Info(ctx, "server"), pipe.Info(ctx, "replication")
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("the restart guard asked INFO: %w", err)
	}
	facts := readInfo(server.Val() + "\r\n" + replication.Val())
	if err := n.judge(addr, facts, s.script.guard, asked); err != nil {
		return err
	}
	if err := conn.ScriptLoad(ctx, s.script.source.(string)).Err(); err != nil {
		return fmt.Errorf("the restart guard sent SCRIPT LOAD: %w", err)
	}
	return nil
}

// connection returns a connection of its own to a master, or to the only one.
func (n *Node) connection(master *redis.Client) (conn *redis.Conn, addr string, ok bool) {
	if master != nil {
		return master.Conn(), master.Options().Addr, true
	}
	client, ok := n.client.(interface{ Conn() *redis.Conn })
	if !ok {
		return nil, "", false
	}
	return client.Conn(), "", true
}

// judge says why a master must not be told a guarded script, by what INFO has said to a question
// that was asked then.
func (n *Node) judge(addr string, i info, guard time.Duration, asked time.Time) error {
	if i["role"] != "master" {
		return errReplica
	}
	if reason := i.keepsScripts(); reason != "" {
		return &Unguardable{reason}
	}
	uptime, err := strconv.ParseInt(i["uptime_in_seconds"], 10, 32)
	if err != nil || i["run_id"] == "" || i["master_replid"] == "" || i["master_replid2"] == "" {
		return &Unguardable{"INFO does not tell uptime_in_seconds, run_id, master_replid and " +
			"master_replid2"}
	}
	up := time.Duration(max(0, uptime)) * time.Second // negative: its clock was set back
	if left := guard + rounding - up; left > 0 {
		return &Quarantine{Up: up, Left: left}
	}
	if strings.Trim(i["master_replid2"], "0") == "" {
		return nil
	}
	seen := asked.Sub(n.sight(addr, i["run_id"]+i["master_replid"]))
	if left := guard - seen; left > 0 {
		return &Quarantine{Up: max(0, seen), Left: left, Promoted: true}
	}
	return nil
}

// sight returns since when a master has been seen with the same identity.
func (n *Node) sight(addr, identity string) time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.sightings[addr].identity != identity {
		if n.sightings == nil {
			n.sightings = make(map[string]sighting)
		}
		n.sightings[addr] = sighting{identity, time.Now()}
	}
	return n.sightings[addr].since
}

// info has the fields of INFO.
type info map[string]string

func readInfo(text string) info {
	i := make(info)
	for line := range strings.Lines(text) {
		if field, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			i[field] = value
		}
	}
	return i
}

// versions are the fields that name a server which is known to forget its scripts in a restart, and
// its compiler.
var versions = map[string]bool{"redis_version": true, "valkey_version": true,
	"redict_version": true, "gcc_version": true}

// keepsScripts says why the server might know a script from before its restart, or "". Redis before
// 7.0 writes those to its append-only file that were loaded by SCRIPT LOAD, and all of them to a
// snapshot if it has replicas. Of servers of another make it is not known.
func (i info) keepsScripts() (reason string) {
	for field, value := range i {
		if strings.HasSuffix(field, "_version") && !versions[field] {
			return fmt.Sprintf("it is not known to forget scripts when it restarts (%s:%s)", field,
				value)
		}
	}
	first, _, _ := strings.Cut(i["redis_version"], ".")
	major, err := strconv.Atoi(first)
	switch {
	case err != nil:
		return fmt.Sprintf("INFO has no version of Redis, but %q", i["redis_version"])
	case major < 7:
		return fmt.Sprintf("Redis %s may know scripts from before a restart: it takes 7.0 or later",
			i["redis_version"])
	}
	return ""
}
