package node

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// longUp is what a master says that has been up for long and never was a replica.
var longUp = info{
	"redis_version": "7.0.15", "gcc_version": "12.2.0", "run_id": "r1",
	"uptime_in_seconds": "86400",
	"role":              "master", "master_replid": "a1",
	"master_replid2": "0000000000000000000000000000000000000000",
}

// but returns the same with other fields; an empty one is missing.
func (i info) but(fields ...string) info {
	other := maps.Clone(i)
	for f := 0; f < len(fields); f += 2 {
		if other[fields[f]] = fields[f+1]; fields[f+1] == "" {
			delete(other, fields[f])
		}
	}
	return other
}

func TestWhatMastersAreToldGuardedScripts(t *testing.T) {
	const guard = 30 * time.Second
	for name, c := range map[string]struct {
		facts info
		want  string // "": it is told
	}{
		"Redis":    {longUp, ""},
		"Redis 8":  {longUp.but("redis_version", "8.0.2"), ""},
		"Redis 10": {longUp.but("redis_version", "10.0.0"), ""},
		"Valkey": {longUp.but("redis_version", "7.2.4", "valkey_version", "8.1.1",
			"server_name", "valkey"), ""},
		"Redict":  {longUp.but("redict_version", "7.3.6"), ""},
		"Redis 6": {longUp.but("redis_version", "6.2.14"), "it takes 7.0 or later"},
		"another make": {longUp.but("dragonfly_version", "df-v1.30.0"),
			"it is not known to forget scripts when it restarts (dragonfly_version:df-v1.30.0)"},
		"no version": {longUp.but("redis_version", ""),
			`INFO has no version of Redis, but ""`},
		"replica": {longUp.but("role", "slave"), "READONLY"},
		"no role": {longUp.but("role", ""), "READONLY"},
		"no uptime": {longUp.but("uptime_in_seconds", ""),
			"INFO does not tell uptime_in_seconds"},
		"odd uptime": {longUp.but("uptime_in_seconds", "1e9"),
			"INFO does not tell uptime_in_seconds"},
		"enormous uptime": {longUp.but("uptime_in_seconds", "99999999999999"),
			"INFO does not tell uptime_in_seconds"},
		"no identity": {longUp.but("run_id", ""),
			"INFO does not tell uptime_in_seconds, run_id"},
		"no history": {longUp.but("master_replid2", ""), "INFO does not tell"},
		"just started": {longUp.but("uptime_in_seconds", "0"),
			"restarted 0 s ago, has no vote for 31 s more"},
		"a while ago": {longUp.but("uptime_in_seconds", "3"),
			"restarted 3 s ago, has no vote for 28 s more"},
		"just not enough": {longUp.but("uptime_in_seconds", "30"),
			"restarted 30 s ago, has no vote for 1 s more"},
		"just enough": {longUp.but("uptime_in_seconds", "31"), ""},
		"clock set back": {longUp.but("uptime_in_seconds", "-5000"),
			"restarted 0 s ago, has no vote for 31 s more"},
		"promoted": {longUp.but("master_replid2", "b2"),
			"was perhaps promoted, seen as a master for 0 s, has no vote for 30 s more"},
		"promoted, just up": {longUp.but("master_replid2", "b2", "uptime_in_seconds", "1"),
			"restarted 1 s ago"},
	} {
		t.Run(name, func(t *testing.T) {
			err := new(Node).judge("", c.facts, guard, time.Now())
			if c.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, c.want)
			require.True(t, answered(err), "the master has answered")
		})
	}
}

// A master that may have been promoted must be seen for the guard's time without another promotion.
func TestPromotedMastersMustBeSeenForTheGuardsTime(t *testing.T) {
	const guard = 30 * time.Second
	n := new(Node)
	promoted := longUp.but("master_replid2", "b2")
	judge := func(addr string, facts info) error { return n.judge(addr, facts, guard, time.Now()) }
	seenFor := func(d time.Duration) {
		s := n.sightings["x"]
		n.sightings["x"] = sighting{s.identity, time.Now().Add(-d)}
	}
	require.Error(t, judge("x", promoted))
	seenFor(guard - time.Second)
	require.ErrorContains(t, judge("x", promoted),
		"seen as a master for 29 s, has no vote for 1 s more")
	seenFor(guard)
	require.NoError(t, judge("x", promoted))
	require.Error(t, judge("y", promoted), "another master")
	require.Error(t, judge("x", promoted.but("master_replid", "c3")), "another promotion")
	seenFor(guard)
	require.Error(t, judge("x", promoted.but("run_id", "r2")), "another process")
	seenFor(guard)
	require.Error(t, judge("x", promoted), "and back")
	require.Len(t, n.sightings, 2, "one for each address")
}

func TestReadInfo(t *testing.T) {
	require.Equal(t, info{"redis_version": "7.0.15", "tcp_port": "6379", "os": "Linux: x"},
		readInfo("# Server\r\nredis_version:7.0.15\r\ntcp_port:6379\nos:Linux: x\r\n\r\n# "+
			"Replication\r\n"))
	for _, text := range []string{"", ":", "::", "\r\n", fmt.Sprint(make([]byte, 100))} {
		readInfo(text)
	}
}
