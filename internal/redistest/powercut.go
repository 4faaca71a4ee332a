package redistest

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// DiskState is how much of the append-only file a power cut will leave.
type DiskState struct {
	path string
	size int64
}

// DiskState notes what has been written to the append-only file so far, to be
// what PowerCut goes back to.
func (s *Server) DiskState(tb testing.TB) DiskState {
	tb.Helper()
	state, err := s.diskState()
	if err != nil {
		tb.Fatal(err)
	}
	return state
}

func (s *Server) diskState() (DiskState, error) {
	// The commands are in one incremental file until the server rewrites it,
	// which it does not do below 64 MB.
	paths, err := filepath.Glob(filepath.Join(s.dir, "appendonlydir", "*.incr.aof"))
	if err != nil {
		return DiskState{}, err
	}
	if len(paths) != 1 {
		return DiskState{}, fmt.Errorf("redistest: %d incremental append-only files, want 1: is WithAOF given?", len(paths))
	}
	info, err := os.Stat(paths[0])
	if err != nil {
		return DiskState{}, err
	}
	return DiskState{path: paths[0], size: info.Size()}, nil
}

// PowerCut kills the server and takes away what it has written to its
// append-only file since state was noted: what the loss of power does to data
// that was acknowledged, but not yet on the disk. Killing the process alone
// loses nothing.
func (s *Server) PowerCut(tb testing.TB, state DiskState) {
	tb.Helper()
	if err := s.Kill(); err != nil {
		tb.Fatal(err)
	}
	if err := os.Truncate(state.path, state.size); err != nil {
		tb.Fatal(err)
	}
}
