package quorum_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/quorum"
)

const maxNodes = 7

var votes = []quorum.Vote{quorum.Yes, quorum.No, quorum.Failed}

// ballot is how many nodes voted in which way. Who they are does not matter.
type ballot struct{ yes, no, failed int }

func (b ballot) String() string {
	return fmt.Sprintf("%d yes, %d no, %d failed", b.yes, b.no, b.failed)
}

func (b ballot) plus(v quorum.Vote) ballot {
	switch v {
	case quorum.Yes:
		b.yes++
	case quorum.No:
		b.no++
	default:
		b.failed++
	}
	return b
}

// tally casts the votes of the ballot among n nodes.
func (b ballot) tally(n int) quorum.Tally {
	t := quorum.New(n)
	for v, count := range map[quorum.Vote]int{
		quorum.Yes: b.yes, quorum.No: b.no, quorum.Failed: b.failed,
	} {
		for range count {
			t.Cast(v)
		}
	}
	return t
}

// ballots returns every ballot that n nodes can have produced when some of them have not voted yet.
func ballots(n int) []ballot {
	var all []ballot
	for yes := 0; yes <= n; yes++ {
		for no := 0; yes+no <= n; no++ {
			for failed := 0; yes+no+failed <= n; failed++ {
				all = append(all, ballot{yes, no, failed})
			}
		}
	}
	return all
}

// outcomes collects what the final rule says of every way in which the pending votes can turn out.
func (b ballot) outcomes(pending int, final func(ballot) quorum.Outcome,
	into map[quorum.Outcome]bool) {
	if pending == 0 {
		into[final(b)] = true
		return
	}
	for _, v := range votes {
		b.plus(v).outcomes(pending-1, final, into)
	}
}

// majority says it without integer division.
func majority(count, n int) bool { return 2*count > n }

func TestRuleDecidesAsSoonAsNoMissingVoteCanChangeTheResult(t *testing.T) {
	for name, rule := range map[string]struct {
		got   func(*quorum.Tally) quorum.Outcome
		final func(n int) func(ballot) quorum.Outcome // of a vote in which everybody has voted
	}{
		"Take": {(*quorum.Tally).Take, func(n int) func(ballot) quorum.Outcome {
			return func(b ballot) quorum.Outcome {
				switch {
				case majority(b.yes, n):
					return quorum.Won
				case majority(b.yes+b.no, n):
					return quorum.Refused
				}
				return quorum.Unreachable
			}
		}},
		"Keep": {(*quorum.Tally).Keep, func(n int) func(ballot) quorum.Outcome {
			return func(b ballot) quorum.Outcome {
				switch {
				case majority(b.yes, n):
					return quorum.Won
				case !majority(b.yes+b.failed, n):
					// lost, even if all the silent ones still have it
					return quorum.Refused
				}
				return quorum.Unreachable
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			for n := 1; n <= maxNodes; n++ {
				for _, b := range ballots(n) {
					possible := map[quorum.Outcome]bool{}
					b.outcomes(n-b.yes-b.no-b.failed, rule.final(n), possible)
					want := quorum.Open
					if len(possible) == 1 {
						for only := range possible {
							want = only
						}
					}
					tally := b.tally(n)
					require.Equal(t, want, rule.got(&tally), "%d nodes: %v", n, b)
				}
			}
		})
	}
}

func TestAllWaitsForEveryNode(t *testing.T) {
	for n := 1; n <= maxNodes; n++ {
		for _, b := range ballots(n) {
			want := quorum.Unreachable
			switch n {
			case b.yes:
				want = quorum.Won
			case b.yes + b.no + b.failed:
			default:
				want = quorum.Open
			}
			tally := b.tally(n)
			require.Equal(t, want, tally.All(), "%d nodes: %v", n, b)
		}
	}
}

func TestClosedVoteIsAsIfTheMissingNodesHadFailed(t *testing.T) {
	for n := 1; n <= maxNodes; n++ {
		for _, b := range ballots(n) {
			closed := b.tally(n)
			closed.Close()
			full := ballot{b.yes, b.no, n - b.yes - b.no}.tally(n)
			require.Equal(t, full, closed, "%d nodes: %v", n, b)
			require.Zero(t, closed.Pending())
			require.NotEqual(t, quorum.Open, closed.Take())
			require.NotEqual(t, quorum.Open, closed.Keep())
			require.NotEqual(t, quorum.Open, closed.All())
		}
	}
}

func TestTallyCounts(t *testing.T) {
	for n := 1; n <= maxNodes; n++ {
		for _, b := range ballots(n) {
			tally := b.tally(n)
			require.Equal(t, b.yes, tally.Yes())
			require.Equal(t, n-b.yes-b.no-b.failed, tally.Pending())
			require.Equal(t, quorum.Size(n), tally.Need())
		}
	}
}

func TestQuorumIsTheSmallestMajority(t *testing.T) {
	for n := 1; n <= maxNodes; n++ {
		require.True(t, majority(quorum.Size(n), n), "two quorums of %d nodes must share a node", n)
		require.False(t, majority(quorum.Size(n)-1, n), "fewer of %d nodes would do", n)
	}
}

// Every way in which n nodes can name one of three owners, say that the key is free, or stay
// silent.
func TestSomebodyMayHoldUnlessTheSilentNodesCouldNotMakeItAMajority(t *testing.T) {
	onlyNames := strings.NewReplacer("-", "", "?", "")
	for n := 1; n <= maxNodes; n++ {
		for _, nodes := range words(n, "abc-?") {
			silent := strings.Count(nodes, "?")
			most, mayHold := 0, false
			for _, owner := range []string{"a", "b", "c", "somebody not named yet"} {
				count := strings.Count(nodes, owner)
				most = max(most, count)
				mayHold = mayHold || majority(count+silent, n)
			}

			named := onlyNames.Replace(nodes)
			leader, count := quorum.Leader(strings.Split(named, "")) // of nothing: nothing
			if count != most || leader == "" != (named == "") ||
				leader != "" && strings.Count(named, leader) != most {
				t.Fatalf("%s: %q is named by %d nodes, the most is %d", nodes, leader, count, most)
			}
			if quorum.MayHold(n, n-silent, count) != mayHold {
				t.Fatalf("%s: MayHold is %v", nodes, !mayHold)
			}
		}
	}
}

func TestOwnersAreToldApartByTheirWholeName(t *testing.T) {
	leader, nodes := quorum.Leader([]string{"worker-1", "worker-10", "worker-10", "worker-1",
		"worker-10"})
	require.Equal(t, "worker-10", leader)
	require.Equal(t, 3, nodes)
}

// words returns all words of n letters.
func words(n int, letters string) []string {
	if n == 0 {
		return []string{""}
	}
	var all []string
	for _, shorter := range words(n-1, letters) {
		for _, letter := range letters {
			all = append(all, shorter+string(letter))
		}
	}
	return all
}
