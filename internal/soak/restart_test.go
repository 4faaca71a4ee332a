//go:build linux

package main

import (
	"fmt"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What the restart guard is for is not kept from it by a quarantine: clients are let in at once, to
// a server that has forgotten all.
func TestServerThatRestartsWithoutDataIsLeftToTheGuard(t *testing.T) {
	for _, remembers := range []bool{false, true} {
		n, clients := launched(t, remembers)
		ctx := t.Context()
		require.NoError(t, clients[0].Set(ctx, "key", 1, time.Minute).Err())
		process := func() string {
			return regexp.MustCompile("run_id:[0-9a-f]+").FindString(
				fmt.Sprint(n.server.Do(t, "info", "server")))
		}
		before := process()
		require.NotEmpty(t, before)
		require.NoError(t, faultOf(restartEmpty).strike(ctx, n, step{kind: restartEmpty, side: -1}))
		for _, c := range clients {
			require.Eventually(t, func() bool { return c.Ping(ctx).Err() == nil }, 20*time.Second,
				time.Millisecond)
			left, err := c.Exists(ctx, "key").Result()
			require.NoError(t, err)
			require.Zero(t, left)
		}
		require.NotEqual(t, before, process())
	}
}
