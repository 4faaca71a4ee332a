package main

// mutant is the library with a mistake.
type mutant struct {
	name  string
	why   string // it is wrong
	edits []edit
}

// edit replaces a text that stands in a file exactly once.
type edit struct{ file, old, new string }

// unit is a test of a package.
type unit struct{ pkg, test string }

// tests are for mutants that the simulation seldom meets: it would take too many things that come
// together.
var tests = map[string]unit{
	"a passing quorum counts": {"./internal/protocol",
		"TestQuorumOfACompetitorCountsInAContestWhenItStays"},
	"node in doubt released once": {"./internal/protocol",
		"TestHowOftenAnAcquireIsTakenBack"},
	"late no trusted": {"./internal/protocol",
		"TestHowOftenAnAcquireIsTakenBack"},
	"healed without the number": {"./internal/protocol",
		"TestNodeThatLostOurKeysGetsThemAgain"},
	"late grant joined after the lease": {"./internal/protocol",
		"TestNodeThatCallsWhenTheLeaseIsOverIsLeft"},
	"leave forgotten by a straggler": {"./internal/protocol",
		"TestWhoeverHasLeftLeavesAgainWhereTheAnswerComesLate"},
	"place left to nobody": {"./internal/protocol",
		"TestWhoeverIsNextTakesThePlaceByAllThatIsWrittenLate"},
	"wake-up lost after registration": {"./internal/queue", "TestWhenTheNextAttemptIsDue"},
	"old call counted":                {"./internal/queue", "TestWhenTheNextAttemptIsDue"},
	"overtaking call forgotten": {"./internal/queue",
		"TestCallThatOvertakesTheRefusalBeforeIt"},
	"nobody steps aside": {"./internal/acceptance",
		"TestWaiterThatReachesNoQuorumHoldsUpNobodyWhoDoes"},
	"fence at least told": {"./internal/protocol",
		"TestFenceIsNotDecidedBeforeAQuorumTellsExactlyIt"},
	"late joiner not told": {"./internal/protocol", "TestNodeThatGrantsLessIsToldTheFence"},
	"all nodes waited for": {"./internal/quorum",
		"TestRuleDecidesAsSoonAsNoMissingVoteCanChangeTheResult"},
	"nobody yields": {"./internal/protocol",
		"TestSplitIsSettledInFavourOfTheSmallestToken"},

	"guard that takes whole seconds for exact": {"./internal/node",
		"TestWhatMastersAreToldGuardedScripts"},
	"guard that asks on one connection of many": {"./internal/acceptance",
		"TestServerThatRestartsBetweenQuestionAndScriptHasNoVote"},
	"guard that takes every master for an old one": {"./internal/node",
		"TestPromotedMastersMustBeSeenForTheGuardsTime"},
	"guarded scripts without their mark": {"./internal/protocol",
		"TestScriptsWithAGuardAreOtherScripts"},
	"healing without a guard": {"./internal/acceptance",
		"TestNodeThatRestartedIsNotHealedUnderTheGuardBeforeItsTime"},

	"no second look": {"./internal/acceptance", "TestVirtualWaitThatEndsIsNotReported"},
	"second look at what the dead have published": {"./internal/acceptance",
		"TestVirtualDeadWaitIsNotInACircle"},
}

var mutants = []mutant{
	{"no drift", "a lock is trusted while nodes whose clocks are fast have dropped its key",
		[]edit{{
			"internal/lease/lease.go", "l.TTL - time.Duration(float64(l.TTL)*l.Drift) - rounding",
			"l.TTL - rounding",
		}}},
	{"validity from the answer on",
		"the key's time runs from when the request was sent, or soon after", []edit{{
			"handle.go", "// The clock again: the answers may have come when nothing of the " +
				"lease was left.", "won.Start = time.Now()",
		}}},
	{"extension from the answer on", "the same, for an extension", []edit{{
		"extend.go", "if next := r.Lease(); next.End()",
		"next := r.Lease()\n\t\tnext.Start = time.Now()\n\t\tif next.End()",
	}}},
	{"loss at the end of the TTL", "the handle outlives its lease by the drift", []edit{{
		"handle.go", "end := h.lease.End()\n\tif closed, ok",
		"end := h.lease.Start.Add(h.lease.TTL)\n\tif closed, ok",
	}, {
		"renewal.go", "if !h.l.schedule.Set(&h.alarm, next) {", "if !next.Before(h.lease.End()) " +
			"{\n\t\tnext = h.lease.Start.Add(h.lease.TTL)\n\t}\n\tif !h.l.schedule.Set(&h.alarm, " +
			"next) {",
	}}},
	{"loss by timer only", "a handle that nobody watches has no timer", []edit{{
		"handle.go", "} else if !time.Now().Before(end) {",
		"} else if h.watching && !time.Now().Before(end) {",
	}}},
	{"quorum less one", "two owners, each with a majority of its own", []edit{{
		"internal/quorum/quorum.go", "return n/2 + 1 }", "return max(1, n/2) }",
	}}},
	{"half is a quorum", "of an even number of nodes each owner has one half", []edit{{
		"internal/quorum/quorum.go", "return n/2 + 1 }", "return (n + 1) / 2 }",
	}}},
	{"one token for all attempts", "the late clean-up of one attempt hits the next one's keys",
		[]edit{
			{"acquire.go", "h := l.newHandle(p, protocol.NewToken(p.owner))",
				"if p.token == \"\" {\n\t\tp.token = protocol.NewToken(p.owner)\n\t}\n\th := " +
					"l.newHandle(p, p.token)"},
			{"options.go", "type callConfig struct {", "type callConfig struct {\n\ttoken string"},
		}},
	{"no clean-up when the context has ended", "a cancelled attempt leaves what it was granted",
		[]edit{{
			"acquire.go", "cleaned := h.claim.Abandon()", "var cleaned *protocol.Round\n\tif " +
				"ctx.Err() == nil {\n\t\tcleaned = h.claim.Abandon()\n\t}",
		}}},
	{"straggler not followed", "what a node grants to an attempt that has failed stays there",
		[]edit{{
			"internal/protocol/ask.go", "case r.verb.takes && !stays && s.has != nothing && " +
				"!s.leaving && !c.wantedLocked():", "case false && stays:",
		}}},
	{"release overtakes its acquire", "the release finds nothing, and then the key is set", []edit{{
		"internal/protocol/ask.go", "SendAfter(&a.call, s.latest)", "SendAfter(&a.call, nil)",
	}}},
	{"node in doubt released once",
		"a request in the sockets of a node that hung runs behind the release", []edit{{
			"internal/protocol/ask.go", "again = s.has == unknown", "again = false",
		}}},
	{"late no trusted", "the no may be to a repetition, with the first copy still in the sockets " +
		"of a node that hung", []edit{{
		"internal/protocol/ask.go",
		"late := a.heard > a.round.asked.Sub(a.round.start)+a.round.timeout", "late := false",
	}}},
	{"release not repeated", "a node that does not answer keeps the key", []edit{{
		"internal/protocol/release.go", "a.call.RepeatUntil = a.call.SendBy\n", "",
	}}},
	{"release on a quorum only", "the other nodes keep the key", []edit{{
		"internal/protocol/round.go", "for i := range r.asks {\n\t\t// Only the first",
		"for i := range r.asks {\n\t\tif r.final && i >= r.tally.Need() " +
			"{\n\t\t\treturn\n\t\t}\n\t\t// Only the first",
	}}},
	{"healed when it is over", "a lock that has been released comes back on a node", []edit{{
		"internal/protocol/acquire.go", "!refused.Gone || !c.wantedLocked() {", "!refused.Gone {",
	}}},
	{"lost at the first refusal", "a quorum still has the lock", []edit{{
		"internal/quorum/quorum.go", "case t.no >= fatal:\n\t\treturn Refused\n\tcase " +
			"t.yes+t.Pending() >= t.quorum, t.no+t.Pending() >= fatal:",
		"case t.no >= 1:\n\t\treturn Refused\n\tcase t.yes+t.Pending() >= t.quorum, " +
			"t.no+t.Pending() >= fatal:",
	}}},
	{"all nodes waited for", "a slow minority delays everybody", []edit{{
		"internal/quorum/quorum.go", "case t.yes >= t.quorum:\n\t\treturn Won\n\tcase " +
			"t.yes+t.Pending() >= t.quorum:", "case t.yes >= t.quorum && t.Pending() == " +
			"0:\n\t\treturn Won\n\tcase t.yes+t.Pending() >= t.quorum:",
	}}},
	{"deadline left to go-redis", "a node that hangs holds its callers up for seconds", []edit{{
		"internal/protocol/round.go", "deadline := r.asked.Add(r.timeout)",
		"deadline := r.asked.Add(10 * time.Second)",
	}}},
	{"free too early", "an owner may have the nodes that did not answer", []edit{{
		"internal/quorum/quorum.go", "return nodes+n-answered >= Size(n) }",
		"return nodes >= Size(n) }",
	}}},
	{"nobody yields", "those who have split the nodes all keep what they have", []edit{{
		"internal/protocol/contest.go", "|| token < r.claim.token {", "{",
	}}},
	{"a passing quorum counts", "whoever gives way may have one until its release arrives", []edit{{
		"internal/protocol/contest.go", "return r.contest && r.beaten <= confirmations, false",
		"return false, false",
	}}},
	{"everybody yields", "of those who have split the nodes nobody gets the lock", []edit{{
		"internal/protocol/contest.go", "return s.most > 0, doubtful", "return false, doubtful",
	}}},
	{"shortened on the nodes alone", "the lease counts on keys that are cut", []edit{{
		"extend.go", "h.lease = proved\n\th.claim.Prove(proved)", "h.claim.Prove(proved)",
	}}},
	{"cut before the lease has moved", "a node that is quicker than the handle has dropped the key",
		[]edit{{
			"extend.go", "h.lease = proved\n\th.claim.Prove(proved)\n\tr := " +
				"h.claim.Shorten(max(proved.TTL, h.minHoldLeftLocked()), h.shortened)",
			"r := h.claim.Shorten(proved.TTL, func(r *protocol.Round) " +
				"{\n\t\th.mu.Lock()\n\t\th.lease = " +
				"proved\n\t\th.unlock()\n\t\th.shortened(r)\n\t})",
		}}},
	{"extension outlives a shortening",
		"what was begun before the shortening proves nothing about keys that are cut", []edit{{
			"extend.go", "next.End().After(h.lease.End()) && !r.Overtaken()",
			"next.End().After(h.lease.End())",
		}}},
	{"late renewal from its votes on", "the keys' time runs from when the renewal was sent",
		[]edit{{
			"internal/protocol/round.go", "// Each vote was in time for what it proves: a lease " +
				"counts from the round's start.", "r.start = time.Now()",
		}}},
	{"release without the number", "a lock that was shortened stays", []edit{
		{"internal/protocol/release.go", "return []any{c.args[0], c.number}",
			"return []any{c.args[0], 0}"},
		{"internal/protocol/release.go", "return []any{c.args[0], c.number, s.locks}",
			"return []any{c.args[0], 0, s.locks}"},
		{"internal/protocol/release.go", "return []any{c.args[0], c.number, s.locks, leaver,",
			"return []any{c.args[0], 0, s.locks, leaver,"},
	}},
	{"healed without the number", "a shortening that comes late cuts a later lease", []edit{{
		"internal/protocol/acquire.go", "args := []any{withNumber(c.token, c.number), lease",
		"args := []any{c.token, lease",
	}}},
	{"extension without the number", "the same, and it is refused by keys that are its own",
		[]edit{{
			"internal/protocol/extend.go",
			"args := []any{c.args[0], r.number, lease.Milliseconds(r.ttl), mode}",
			"number := r.number\n\tif mode == \"keep\" {\n\t\tnumber = 0\n\t}\n\targs := " +
				"[]any{c.args[0], number, lease.Milliseconds(r.ttl), mode}",
		}}},
	{"wake-up lost after registration",
		"the node has called before the subscription stood, and nobody looks again", []edit{{
			"internal/queue/waiter.go", "\tcase word == wordUp:\n",
			"\tcase word == wordUp:\n\t\treturn nil\n",
		}}},
	{"old call counted", "it is from before the refusal, so the attempt is in vain", []edit{{
		"internal/queue/waiter.go", "case shown != 0 && shown <= s.closed:", "case false:",
	}}},
	{"overtaking call forgotten", "the refusal before it arrives later, over another connection, " +
		"and the wake-up is lost", []edit{{
		"internal/queue/waiter.go", "s.closed, s.open = r.Time, s.called > r.Time",
		"s.closed, s.open = r.Time, false",
	}}},
	{"zombies after an undo", "who has left is put into the queue again by what is written late",
		[]edit{{
			"internal/protocol/stay.go", "if !p.waits() || s.aside != nil", "if s.aside != nil",
		}}},
	{"nobody steps aside", "who reaches no quorum keeps those from the lock who do", []edit{{
		"acquire.go", "h.claim.StepAside()\n", "_ = 0\n",
	}}},
	{"place left to nobody", "a late call takes somebody out, and calls who came after the next",
		[]edit{{
			"internal/protocol/place.go", "p.heir.Store(next) // before p has left: see stayer", "",
		}}},
	{"leave forgotten by a straggler",
		"what a node answers late has put somebody into its queue who has left", []edit{{
			"internal/protocol/ask.go", "case (r.verb.watches || r.verb.stands && c.over) && " +
				"!s.leaving && c.place.mayStayAt(a.site):", "case false:",
		}}},
	{"tickets by clients' clocks", "they differ, and whoever is behind gets everything", []edit{{
		"internal/queue/waiter.go", "ticket, ok := l.clock.ticket(w.came)",
		"ticket, ok := w.came.UnixMicro()+int64(l.channel[10])*1_000_000_000, true",
	}}},
	{"late grant joined after the lease", "the lock is over, and nobody releases it on that node",
		[]edit{{
			"internal/protocol/claim.go", "return !c.over && (c.until.IsZero() || " +
				"time.Now().Before(c.until))", "return !c.over",
		}}},
	{"no second round for the fence", "the nodes of the next holder may know less", []edit{{
		"internal/protocol/fence.go", "case agreed:\n", "case agreed || fence > 0:\n",
	}}},
	{"fence at least told", "a counter that has gone on may have gone on for somebody else",
		[]edit{{
			"internal/protocol/fence.go", "if all.low == all.high {",
			"if r.raise != nil && all.low >= r.raise.to {\n\t\t\tall.low, all.high = r.raise.to, " +
				"r.raise.to\n\t\t}\n\t\tif all.low == all.high {",
		}}},
	{"healed without the fence", "the nodes that knew it may forget it, and those that know the " +
		"lock do not know it", []edit{{
		"internal/protocol/acquire.go", "\"=\"+fenceText(c.fence))", "\"=1\")",
	}}},
	{"late joiner not told", "the same", []edit{{
		"internal/protocol/fence.go", "|| s.fence >= c.fence ||", "|| s.fence > 0 ||",
	}}},
	{"guard that trusts NOSCRIPT alone",
		"whoever asks first tells a node that has just restarted the scripts", []edit{{
			"internal/node/guard.go", "left := guard + rounding - up; left > 0 {",
			"left := guard + rounding - up; left > 0 && up < 0 {",
		}}},
	{"guard that takes whole seconds for exact", "a node has a vote up to a second too early",
		[]edit{{
			"internal/node/guard.go", "const rounding = time.Second",
			"const rounding = time.Duration(0)",
		}}},
	{"guard that asks on one connection of many",
		"what is told may reach the process after the one that has answered", []edit{{
			"internal/node/guard.go", "conn.ScriptLoad(ctx,", "n.client.ScriptLoad(ctx,",
		}}},
	{"guard that takes every master for an old one",
		"a promoted replica has been up for long, and has missed what was confirmed", []edit{{
			"internal/node/guard.go", "strings.Trim(i[\"master_replid2\"], \"0\") == \"\"", "true",
		}}},
	{"guarded scripts without their mark",
		"whoever has no guard, or renews a lock, tells a node the scripts", []edit{
			{"internal/protocol/scripts.go", "node.Guarded(Source(files, name)+GuardMark, " +
				"digests[name+guardedName], guard)",
				"node.Guarded(Source(files, name), digests[name], guard)"},
			{"internal/protocol/scripts.go", "find: load(\"inspect\"),",
				"find: load(\"inspect\"), heal: load(\"acquire\"),"},
			{"internal/protocol/scripts.go", "\tfind *node.Script // inspect without a guard",
				"\tfind *node.Script\n\theal *node.Script"},
			{"internal/protocol/acquire.go", "name: \"acquire\", script: acquireVerb.script,",
				"name: \"acquire\", script: func(s *Scripts) *node.Script { return s.heal },"},
		}},
	{"healing without a guard", "a node confirms a lock that has forgotten another", []edit{
		{"internal/protocol/scripts.go", "find: load(\"inspect\"),",
			"find: load(\"inspect\"), heal: load(\"acquire\"),"},
		{"internal/protocol/scripts.go", "\tfind *node.Script // inspect without a guard",
			"\tfind *node.Script\n\theal *node.Script"},
		{"internal/protocol/acquire.go", "name: \"acquire\", script: acquireVerb.script,",
			"name: \"acquire\", script: func(s *Scripts) *node.Script { return s.heal },"},
	}},
	{"inspection without a guard", "nodes that have forgotten a lock say that it is free", []edit{{
		"internal/protocol/scripts.go", "inspect: vote(\"inspect\")", "inspect: load(\"inspect\")",
	}}},
	{"no deadlock detection", "tasks that hold one lock and wait for another wait for ever",
		[]edit{{
			"deadlock.go", "if w.l.deadlocks == 0 {", "if true {",
		}}},
	{"no second look",
		"a wait that has ended, or whose process has died, is taken for one of the circle", []edit{{
			"internal/deadlock/look.go", "if found == nil || !found.same(w.suspect) " +
				"{\n\t\tw.suspect = found\n\t\treturn false\n\t}\n\treturn found.after(w.suspect)",
			"return found != nil",
		}}},
	{"second look at what the dead have published",
		"a process that has died does not go on to wait", []edit{{
			"internal/deadlock/look.go", "return found.after(w.suspect)", "return true",
		}}},
	{"everybody of a circle is told", "nobody goes on", []edit{{
		"internal/deadlock/search.go", "s.visited[n.Wait] || !n.age().olderThan(s.w.age)",
		"s.visited[n.Wait]",
	}}},
	{"the oldest of a circle is told", "the youngest is", []edit{{
		"internal/deadlock/search.go", "!n.age().olderThan(s.w.age)", "n.age().olderThan(s.w.age)",
	}}},
	{"the oldest of a process is told", "the same, among waits of one process", []edit{{
		"internal/deadlock/local.go", "if a.watch.age.olderThan(b.watch.age) {",
		"if b.watch.age.olderThan(a.watch.age) {",
	}}},
	{"nobody looks at the nodes", "deadlocks between processes are not found", []edit{{
		"internal/deadlock/look.go", "found = w.search(ctx, targets, sights)", "_ = w.search",
	}}},
	{"free locks are nobody's", "they are kept for who is first in line, who may wait for " +
		"somebody who waits for them", []edit{{
		"internal/deadlock/look.go", "w.queued == nil && name != \"\" && len",
		"false && name != \"\" && len",
	}}},
	{"published waits stay", "they outlive the wait", []edit{{
		"internal/deadlock/watch.go", "defer w.withdraw()", "_ = w.withdraw",
	}, {
		"internal/deadlock/watch.go", "return 5 * w.pause() }", "return time.Hour }",
	}}},
	// What follows is broken in the handlers that stand in for the scripts: as Lua it takes too
	// long.
	{"zero receivers ignored",
		"those behind somebody whose process is gone wait until it has had its chance", []edit{{
			"internal/sim/native_queue.go", "if l.tell(head, \"come\") > 0 {",
			"if l.tell(head, \"come\") >= 0 {",
		}}},
	{"released without a call", "nobody who waits is told", []edit{{
		"internal/sim/native_queue.go", "if !l.Exists(l.keys[i]) && (stayer == \"\" || stayer != " +
			"leaver || l.head(i) != stayer) {", "if false {",
	}}},
	{"cut in spite of the number", "a shortening that comes late cuts a later lease", []edit{{
		"internal/sim/native.go", "case stands[i] < number && cut:", "case cut:",
	}}},
	{"keep does not raise the number",
		"the same: the late shortening finds a smaller number than its own", []edit{{
			"internal/sim/native.go", "case stands[i] < number:\n\t\t\tm.set(key, " +
				"numbered(number, token), live)",
			"case stands[i] < number:\n\t\t\tm.pexpire(key, live)",
		}}},
	{"release does not know numbers", "a lock that was shortened stays", []edit{{
		"internal/sim/native.go", "case stands >= 0 && stands <= number:", "case stands == 0:",
	}}},
	{"keep may shorten", "an extension that comes late cuts a later lease", []edit{
		{"internal/sim/native.go", "live := max(ttl, left[i])", "live := ttl"},
		{"internal/sim/native.go", "case !cut && live > left[i]:", "case !cut:"},
	}},
	{"extension makes a lost key anew", "what is gone may be over", []edit{{
		"internal/sim/native.go", "if value == nil {\n\t\t\treturn []any{i + 1}\n\t\t}",
		"if value == nil {\n\t\t\tm.set(key, token, ttl)\n\t\t\tvalue = token\n\t\t}",
	}}},
	{"extension of anybody's lock", "it is not ours", []edit{{
		"internal/sim/native.go", "stands[i] = numberOn(value.(string), token); stands[i] < 0 || " +
			"stands[i] > number {", "stands[i] = max(0, numberOn(value.(string), token)); false {",
	}}},
	{"release without comparison", "it deletes the next owner's lock", []edit{{
		"internal/sim/native.go", "case stands >= 0 && stands <= number:", "case stands >= -1:",
	}}},
	{"acquire overwrites", "it takes away somebody's lock", []edit{{
		"internal/sim/native.go", "if owner != nil && owner != token {", "if false {",
	}}},
	{"acquire not idempotent",
		"a repeated request is refused for its own key, which nobody then deletes", []edit{{
			"internal/sim/native.go", "if owner != nil && owner != token {", "if owner != nil {",
		}}},
	{"grant leaves the counter", "two holders have the same fence", []edit{{
		"internal/sim/native_fence.go", "stands++", "_ = stands",
	}}},
	{"counter is set to the proposal", "a clock that is behind has the smaller fence", []edit{{
		"internal/sim/native_fence.go", "number = math.Max(number, stands)",
		"_ = math.Max(number, stands)",
	}}},
	{"multi not undone", "the keys before the one that is refused stay", []edit{{
		"internal/sim/native.go", "m.Del(ours)", "_ = ours",
	}}},
}
