package sim

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// at makes a run of a script for the token "mine" and the key "a"; times are in seconds.
func at(verb string, sent, arrived, ran int, ours bool) run {
	second := func(n int) time.Time { return time.Unix(int64(n), 0) }
	return run{stamp{second(sent), second(arrived)}, second(ran), verb, "mine", []string{"a"}, ours}
}

func TestKeyMayBeLeftOnlyByARequestThatCameTooLateForItsClientToKnow(t *testing.T) {
	acquired, refused, released := true, false, false
	for _, tt := range []struct {
		name string
		runs []run
		late bool
	}{
		{"nobody released it", []run{at("acquire", 1, 2, 2, acquired)}, false},
		{"taken again after a release", []run{at("release", 1, 2, 2, released),
			at("acquire", 3, 4, 4, acquired)}, false},
		{"under way behind a release", []run{at("release", 3, 4, 4, released),
			at("acquire", 1, 5, 5, acquired)}, true},
		{"in the sockets when the release ran",
			[]run{at("release", 3, 4, 5, released), at("acquire", 1, 4, 5, acquired)}, false},
		{"under way behind its own repetition, which was refused",
			[]run{at("acquire", 3, 4, 4, refused), at("acquire", 1, 5, 5, acquired)}, true},
		{"under way behind its own repetition, which was granted",
			[]run{at("acquire", 3, 4, 4, acquired), at("acquire", 1, 5, 5, acquired)}, false},
		{"the second of two that were late", []run{
			at("acquire", 5, 6, 6, refused), at("acquire", 1, 7, 7, refused),
			at("acquire", 3, 8, 8, acquired),
		}, true},
		{"another token's release", []run{
			{stamp: at("", 3, 4, 4, false).stamp, at: time.Unix(4, 0), verb: "release",
				token: "other", keys: []string{"a"}}, at("acquire", 1, 5, 5, acquired),
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.late, (&node{runs: tt.runs}).cameLate("a", "mine"))
		})
	}
}

func TestBatchInWhichNothingHappensLacksEverything(t *testing.T) {
	var totals Totals
	require.Len(t, totals.Lacking(100), 10+len(faultKinds))
}

// A connection as TCP has it: what is under way arrives also when its sender has gone, and in
// order.
func TestStreamDeliversInOrderAndAfterItsEnd(t *testing.T) {
	s, now, never := newStream(), time.Now(), func() time.Time { return time.Time{} }
	s.send([]byte("first"), now.Add(-time.Millisecond))
	s.send([]byte("second"), now.Add(-time.Hour)) // not before the first
	s.send(nil, now.Add(-time.Millisecond))
	s.send([]byte("nobody sends behind the end"), now)
	buffer := make([]byte, 3)
	var got string
	for {
		n, from, err := s.read(buffer, never)
		if err != nil {
			require.ErrorContains(t, err, "EOF")
			break
		}
		require.Equal(t, now.Add(-time.Millisecond), from.arrived)
		got += string(buffer[:n])
	}
	require.Equal(t, "firstsecond", got)
}
