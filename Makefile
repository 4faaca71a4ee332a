# make test is all there is to run before a commit. On a fresh machine it first installs what it needs.

STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK = golang.org/x/vuln/cmd/govulncheck@v1.9.0
ACTIONLINT = github.com/rhysd/actionlint/cmd/actionlint@v1.7.12

# Every module of the repository, and those besides the library.
MODULES = . $(OTHERS)
OTHERS = benchmarks deploy cmd/redlock examples/asynqleader gocronredlock otelredlock promredlock monitoring integrations examples/fencing

# Those that are released: docs/releasing.md.
NESTED = $(filter-out benchmarks deploy integrations monitoring examples/%,$(OTHERS))

# Those that are tested with the newest of what they require too: .ci/newest-*.mod.
EXPORTERS = otelredlock promredlock

# A go.work of yours changes neither the Go nor the go-redis that the tests run with.
export GOWORK = off

# Tests that need a redis-server, or Prometheus, fail without one instead of being skipped.
export REDLOCK_REQUIRE_REDIS = 1
export REDLOCK_REQUIRE_PROMETHEUS = 1

.PHONY: test redis format tidy vet lint race race-rest race-first race-second race-others newest upgrade oldest-go servers vulncheck apidiff \
	release release-nested sim simsoak digests model mutants bench fuzz soak

# Tests that wait most of the time run beside others.
test: redis format tidy vet lint
	@$(MAKE) --no-print-directory -j3 race
	@$(MAKE) --no-print-directory -j3 race-others newest sim

redis:
	@.ci/install-redis

format:
	@unformatted=$$(gofmt -l .); [ -z "$$unformatted" ] || { echo "not gofmt-ed: $$unformatted"; exit 1; }

# go.mod and go.sum of every module, and those of the tests with the newest go-redis, are what go mod tidy makes of them.
tidy:
	@for m in $(MODULES); do (cd $$m && go mod tidy -diff) || exit 1; done
	@go mod tidy -modfile=.ci/newest.mod -diff
	@for m in $(EXPORTERS); do (cd $$m && go mod tidy -modfile=../.ci/newest-$$m.mod -diff) || exit 1; done

# On 386 too, where an int has 32 bits: it compiles everything, tests included. The command line tool for the other systems
# that it is built for.
vet:
	@for m in $(MODULES); do (cd $$m && go vet ./... && GOARCH=386 go vet ./...) || exit 1; done
	@for os in darwin windows; do (cd cmd/redlock && GOOS=$$os go vet ./...) || exit 1; done

lint:
	@for m in $(MODULES); do (cd $$m && go run $(STATICCHECK) ./...) || exit 1; done
	@go run $(ACTIONLINT)

# go.mod has the oldest go-redis that is supported, so this is the test of that one; the examples run in it too. The acceptance
# tests take longer than all others together, so each half of them runs by itself.
FIRST_HALF = ^Test[A-M]
race: race-rest race-first race-second

race-rest:
	go test -race -shuffle=on $$(go list ./... | grep -v /internal/acceptance$$)

race-first:
	go test -race -shuffle=on -run '$(FIRST_HALF)' ./internal/acceptance

race-second:
	go test -race -shuffle=on -skip '$(FIRST_HALF)' ./internal/acceptance

race-others:
	@for m in $(OTHERS); do (cd $$m && go test -race -shuffle=on ./...) || exit 1; done

# With the newest go-redis, the tests in which it matters what the client does. With the newest OpenTelemetry and Prometheus, those of
# what measures with them.
CLIENT_TESTS = Virtual|Fuzz|Scripts|Error|LostReplies|Cancelled|Hang|Panics|Minority|AnyNumber|Cluster|Sentinel|Heals|User|Sharding|Demoted|Masters
newest:
	go test -modfile=.ci/newest.mod -shuffle=on -run '$(CLIENT_TESTS)' . ./internal/acceptance
	go test -modfile=.ci/newest.mod -shuffle=on ./internal/node
	for m in $(EXPORTERS); do (cd $$m && go test -modfile=../.ci/newest-$$m.mod -shuffle=on ./...) || exit 1; done

# Makes "the newest" the newest of today: go-redis and all else that the tests with it use, OpenTelemetry and Prometheus.
upgrade:
	go get -modfile=.ci/newest.mod -u -t ./...
	go mod tidy -modfile=.ci/newest.mod
	for m in $(EXPORTERS); do (cd $$m && f=../.ci/newest-$$m.mod && \
		go get -modfile=$$f $$(go list -modfile=$$f -m -f '{{if not (or .Main .Replace .Indirect)}}{{.Path}}@latest{{end}}' all) && \
		go mod tidy -modfile=$$f) || exit 1; done

# With the oldest Go that go.mod allows, in its last patch release. The go command fetches it. Most of the other modules need a newer
# one.
OLDEST_GO = go1.24.13
oldest-go: redis
	GOTOOLCHAIN=$(OLDEST_GO) go test -race -shuffle=on ./...
	for m in $(EXPORTERS); do (cd $$m && GOTOOLCHAIN=$(OLDEST_GO) go test -race -shuffle=on ./...) || exit 1; done

# Against servers of other Debian releases, which it fetches into bin/servers: Redis, Valkey and Redict, see .ci/fetch-server.
# Some of them: make servers SERVERS="redis-8.0 valkey-sid". With the newest go-redis: make servers TESTFLAGS=-modfile=.ci/newest.mod
servers:
	@TESTFLAGS="$(TESTFLAGS)" .ci/servers $(SERVERS)

# Known vulnerabilities that the code can reach. It asks vuln.go.dev, so that it is no part of make test.
vulncheck:
	@for m in $(MODULES); do (cd $$m && go run $(GOVULNCHECK) ./...) || exit 1; done

# What has changed in the exported API since the latest release.
apidiff:
	@.ci/apidiff . $(NESTED)

# The tags of a release: docs/releasing.md. make release VERSION=v1.2.3
release:
	@.ci/release "$(VERSION)"

release-nested:
	@[ -n "$(NESTED)" ] || { echo "there are no nested modules to release"; exit 1; }
	@.ci/release "$(VERSION)" $(NESTED)

# The simulation: docs/testing.md. A failing seed prints how to see it again.
sim:
	go test -count=1 ./internal/sim -run TestSeeds -seeds=2000

# Writes the digests of the scripts, after one has changed. Its twin in Go, internal/sim/native.go, is to change with it.
digests:
	REDLOCK_WRITE_DIGESTS=1 go test -count=1 -run TestDigestsAreThoseOfTheScripts .

# As many seeds as you like, from FIRST on: make simsoak SEEDS=100000.
SEEDS = 20000
FIRST = 1
simsoak:
	go test -count=1 -timeout 0 ./internal/sim -run TestSeeds -seeds=$(SEEDS) -first=$(FIRST) -v

# The model of the fencing tokens, searched with larger counters than make test has time for: some ten minutes.
model:
	go test -count=1 -timeout 0 ./internal/fencemodel -most=5 -runs=100000 -v

# Breaks the library in one way after the other and sees whether the simulation notices.
mutants:
	go run ./internal/sim/mutants

# Runs each fuzz target for a while. What it finds goes to testdata/fuzz, to be kept: from then on every test runs it.
FUZZTIME = 30s
fuzz: redis
	@for p in $$(git grep -l '^func Fuzz' -- '*_test.go' | xargs -n 1 dirname | sort -u); do \
		for f in $$(go test -list '^Fuzz' ./$$p | grep '^Fuzz'); do \
			go test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) ./$$p || exit 1; done; done

# Measures against other libraries, for about seventeen minutes, and writes docs/benchmarks.md.
bench:
	cd benchmarks && go run . -doc ../docs/benchmarks.md -svg plots

# Real processes under real faults, for as long as DURATION says: see docs/testing.md.
DURATION = 2m
SCENARIO = safe
SEED =
REPORT = bin/soak.html
soak: redis
	@mkdir -p $(dir $(REPORT))
	go run ./internal/soak -scenario $(SCENARIO) -duration $(DURATION) $(if $(SEED),-seed $(SEED)) -report $(REPORT)
