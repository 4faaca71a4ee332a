// Package acceptance tests the library as its users see it: through the public API, on real servers.
package acceptance
