// Package peers runs this library next to redsync, redislock and rueidislock: do they exclude each
// other under the same keys (docs/migrating.md), and is the table in README.md that compares them
// still true?
//
//	rollout_test.go   two libraries, one key
//	compare_test.go   the rows of the table, one test for each that can be run
//	pages_test.go     the code in docs/migrating.md compiles, and the versions that the pages name
//	                  are those in go.mod
package peers
