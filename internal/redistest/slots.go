package redistest

import "testing"

// MasterOf returns the master that a key belongs to. Any of the masters can be
// asked, so pass one that answers.
func (c *Cluster) MasterOf(tb testing.TB, ask *Server, key string) *Server {
	tb.Helper()
	slot, _ := ask.Do(tb, "cluster", "keyslot", key).(int64)
	for i := range c.Nodes {
		if int(slot) < (i+1)*slotCount/len(c.Nodes) {
			return c.Nodes[i]
		}
	}
	tb.Fatalf("redistest: slot %d of %q is out of range", slot, key)
	return nil
}
