module github.com/rediskit/redlock/cmd/redlock

go 1.26.0

// The tool is developed together with the library, and no version of the library is published that
// has all it needs. A release of the tool must name one, without this line: go install refuses a
// module with a replacement.
replace github.com/rediskit/redlock => ../..

require (
	github.com/alecthomas/kong v1.17.0
	github.com/creack/pty v1.1.24
	github.com/redis/go-redis/v9 v9.23.0
	github.com/rediskit/redlock v0.0.0-00010101000000-000000000000
	github.com/stretchr/testify v1.12.1
	golang.org/x/sys v0.50.0
	golang.org/x/term v0.48.0
)

require (
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	go.uber.org/atomic v1.12.0 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
)
