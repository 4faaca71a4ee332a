package redistest

import (
	"context"
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

// DiskState waits until everything acknowledged so far is in the append-only file,
// and notes that as what PowerCut goes back to. Without the wait a command may be
// missing: with FsyncEverySecond a server replies before it writes while the fsync
// of the second before is still going on.
func (s *Server) DiskState(tb testing.TB) DiskState {
	tb.Helper()
	state, err := s.NoteDisk()
	if err != nil {
		tb.Fatal(err)
	}
	return state
}

// NoteDisk is DiskState for programs.
func (s *Server) NoteDisk() (DiskState, error) {
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	err := await(ctx, func() error {
		return expectInfo(ctx, s, "persistence", "aof_buffer_length:0\r\n")
	})
	if err != nil {
		return DiskState{}, err
	}
	return s.diskState()
}

func (s *Server) diskState() (DiskState, error) {
	// The commands are in one incremental file until the server rewrites it,
	// which it does not do below 64 MB.
	pattern := filepath.Join("appendonlydir", "*.incr.aof")
	if s.version.Before(7, 0) {
		pattern = "appendonly.aof"
	}
	paths, err := filepath.Glob(filepath.Join(s.dir, pattern))
	if err != nil {
		return DiskState{}, err
	}
	if len(paths) != 1 {
		return DiskState{}, fmt.Errorf("redistest: %d incremental append-only files, want 1: is "+
			"WithAOF given?", len(paths))
	}
	info, err := os.Stat(paths[0])
	if err != nil {
		return DiskState{}, err
	}
	return DiskState{path: paths[0], size: info.Size()}, nil
}

// PowerCut kills the server and takes away what it has written to its
// append-only file since state was noted: what the loss of power does to data
// that was acknowledged, but not yet on the disk.
func (s *Server) PowerCut(tb testing.TB, state DiskState) {
	tb.Helper()
	if err := s.CutPower(state); err != nil {
		tb.Fatal(err)
	}
}

// CutPower is PowerCut for programs.
func (s *Server) CutPower(state DiskState) error {
	if err := s.Kill(); err != nil {
		return err
	}
	return os.Truncate(state.path, state.size)
}
