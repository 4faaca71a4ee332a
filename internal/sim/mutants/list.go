package main

// mutant is the library with a mistake.
type mutant struct {
	name  string
	why   string // it is wrong
	edits []edit
}

// edit replaces a text that stands in a file exactly once.
type edit struct{ file, old, new string }

var mutants = []mutant{
	{"no drift", "a lock is trusted while nodes whose clocks are fast have dropped its key", []edit{{
		"handle.go", "l.ttl - time.Duration(float64(l.ttl)*l.drift) - rounding", "l.ttl - rounding",
	}}},
	{"validity from the answer on", "the key's time runs from when the request was sent, or soon after", []edit{{
		"handle.go", "c.lease = lease{start: r.start, ttl: ttl, drift: c.l.drift}", "c.lease = lease{start: time.Now(), ttl: ttl, drift: c.l.drift}",
	}}},
	{"extension from the answer on", "the same, for an extension", []edit{{
		"handle.go", "return lease{start: r.start, ttl: r.ttl, drift: h.claim.l.drift}", "return lease{start: time.Now(), ttl: r.ttl, drift: h.claim.l.drift}",
	}}},
	{"loss at the end of the TTL", "the handle outlives its lease by the drift", []edit{{
		"handle.go", "end := h.claim.lease.end()\n\tif closed, ok", "end := h.claim.lease.start.Add(h.claim.lease.ttl)\n\tif closed, ok",
	}, {
		"renewal.go", "next := h.claim.lease.end()\n\tvar event", "next := h.claim.lease.start.Add(h.claim.lease.ttl)\n\tvar event",
	}}},
	{"loss by timer only", "a handle that nobody watches has no timer", []edit{{
		"handle.go", "} else if !time.Now().Before(end) {", "} else if h.watching && !time.Now().Before(end) {",
	}}},
	{"quorum less one", "two owners, each with a majority of its own", []edit{{
		"internal/quorum/quorum.go", "return n/2 + 1 }", "return max(1, n/2) }",
	}}},
	{"half is a quorum", "of an even number of nodes each owner has one half", []edit{{
		"internal/quorum/quorum.go", "return n/2 + 1 }", "return (n + 1) / 2 }",
	}}},
	{"one token for all attempts", "the late clean-up of one attempt hits the next one's keys", []edit{
		{"lock.go", "h = l.newHandle(p, l.newToken())", "if p.token == \"\" {\n\t\tp.token = l.newToken()\n\t}\n\th = l.newHandle(p, p.token)"},
		{"lock.go", "type plan struct {", "type plan struct {\n\ttoken string"},
	}},
	{"no clean-up when the context has ended", "a cancelled attempt leaves what it was granted", []edit{{
		"lock.go", "cleaned := c.abandon()", "var cleaned *round\n\tif ctx.Err() == nil {\n\t\tcleaned = c.abandon()\n\t}",
	}}},
	{"straggler not followed", "what a node grants to an attempt that has failed stays there", []edit{{
		"claim.go", "case r.verb == acquireVerb && dirty && c.unwanted():", "case false:",
	}}},
	{"release overtakes its acquire", "the release finds nothing, and then the key is set", []edit{{
		"internal/node/node.go", "c.follow(earlier)\n\tc.bound", "c.bound",
	}}},
	{"doubtful node released once", "a request in the sockets of a node that hung runs behind the release", []edit{{
		"claim.go", "!failed(q.err) && lane.doubtful {", "!failed(q.err) && lane.doubtful && false {",
	}}},
	{"release not repeated", "a node that does not answer keeps the key", []edit{{
		"claim.go", "RepeatUntil: time.Now().Add(c.ttl + residueGrace)}", "}",
	}}},
	{"release on a quorum only", "the other nodes keep the key", []edit{{
		"claim.go", "\tfor i := range c.lanes {\n\t\tcall := c.releaseCall()", "\tfor i := range c.lanes[:r.tally.Need()] {\n\t\tcall := c.releaseCall()",
	}}},
	{"healed when it is over", "a lock that has been released comes back on a node", []edit{{
		"claim.go", "!refused.gone || c.unwanted() {", "!refused.gone {",
	}}},
	{"lost at the first refusal", "a quorum still has the lock", []edit{{
		"internal/quorum/quorum.go", "case t.no >= fatal:\n\t\treturn Refused\n\tcase t.yes+t.Pending() >= t.quorum, t.no+t.Pending() >= fatal:",
		"case t.no >= 1:\n\t\treturn Refused\n\tcase t.yes+t.Pending() >= t.quorum, t.no+t.Pending() >= fatal:",
	}}},
	{"all nodes waited for", "a slow minority delays everybody", []edit{{
		"internal/quorum/quorum.go", "case t.yes >= t.quorum:\n\t\treturn Won\n\tcase t.yes+t.Pending() >= t.quorum:", "case t.yes >= t.quorum && t.Pending() == 0:\n\t\treturn Won\n\tcase t.yes+t.Pending() >= t.quorum:",
	}}},
	{"deadline left to go-redis", "a node that hangs holds its callers up for seconds", []edit{{
		"claim.go", "l.deadlines.after(r.start, r.timeout)", "l.deadlines.after(r.start, 10*time.Second)",
	}}},
	{"free too early", "an owner may have the nodes that did not answer", []edit{{
		"internal/quorum/quorum.go", "return nodes+n-answered >= Size(n) }", "return nodes >= Size(n) }",
	}}},
	{"shortened on the nodes alone", "the lease counts on keys that are cut", []edit{{
		"handle.go", "c.lease = next\n\tr.then", "r.then",
	}}},
	{"extension outlives a shortening", "what was begun before the shortening proves nothing about keys that are cut", []edit{{
		"handle.go", "number > h.shortened && next.end()", "next.end()",
	}}},
	{"shortened in spite of the mark", "a shortening that comes late cuts a later lease", []edit{{
		"internal/sim/native.go", "if distance(now+longest, number(mark)) > 1 {", "if false {", // as Lua it takes too long
	}}},
	{"keep may shorten", "an extension that comes late cuts a later lease", []edit{{
		"scripts/extend.lua", "mode == 'cut' and ttl or math.max(ttl, left[k])", "ttl",
	}}},
	{"extension makes a lost key anew", "what is gone may be over", []edit{{
		"scripts/extend.lua", "if not owner then return {k - first + 1} end", "if not owner then\n      redis.call('SET', KEYS[k], token, 'PX', ttl)\n      owner = token\n    end",
	}}},
	{"extension of anybody's lock", "it is not ours", []edit{{
		"scripts/extend.lua", "if owner ~= token then return {k - first + 1, owner, pttl} end\n", "\n",
	}}},
	{"release without comparison", "it deletes the next owner's lock", []edit{{
		"scripts/release.lua", "if owner == token then", "if owner then",
	}}},
	{"acquire overwrites", "it takes away somebody's lock", []edit{{
		"scripts/acquire.lua", "token, 'NX', 'PX', ttl)", "token, 'PX', ttl)",
	}}},
	{"acquire not idempotent", "a repeated request is refused for its own key, which nobody then deletes", []edit{{
		"scripts/acquire.lua", "if owner ~= token then return {i, owner, pttl} end", "do return {i, owner, pttl} end",
	}}},
	{"multi not undone", "the keys before the one that is refused stay", []edit{{
		"scripts/acquire.lua", "for ours = first, k - 1 do redis.pcall('DEL', KEYS[ours]) end", "",
	}}},
}
