// Package sim runs the library as it is, on go-redis as it is, against nodes in memory over
// connections in memory, in virtual time, and breaks whatever can break: nodes, connections, clocks
// and clients. What happens follows from a seed.
//
// A [World] must live in a bubble of testing/synctest. It knows what no client knows, every key on
// every node at every moment, and holds what the clients see against that; what they saw among
// themselves is checked by package history afterwards.
package sim
