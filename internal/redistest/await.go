package redistest

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// await asks until check has nothing to complain about or ctx ends.
func await(ctx context.Context, check func() error) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%w (%w)", err, ctx.Err())
		}
	}
}

// expectInfo complains if a section of INFO lacks what is wanted.
func expectInfo(ctx context.Context, s *Server, section, want string) error {
	reply, err := s.do(ctx, "info", section)
	if err != nil {
		return err
	}
	if info, _ := reply.(string); !strings.Contains(info, want) {
		return fmt.Errorf("redistest: %s: no %q in INFO %s:\n%s", s.Addr(), want, section, info)
	}
	return nil
}
