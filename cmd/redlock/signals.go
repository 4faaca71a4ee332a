package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
)

// listen returns a channel of the signals that are meant for COMMAND, or that end redlock. Signals
// that were ignored when redlock began, as under nohup, stay ignored.
func listen() chan os.Signal {
	signals := make(chan os.Signal, 16)
	for _, s := range forwarded {
		if !signal.Ignored(s) {
			signal.Notify(signals, s)
		}
	}
	return signals
}

// untilSignal calls f with a context that ends with the first signal that asks a process to end.
// Then the error is that signal. If f has done its work all the same, whoever reads the channel
// next gets the signal.
func untilSignal(signals chan os.Signal, f func(ctx context.Context) error) error {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case s := <-signals:
				if asksToEnd(s) {
					cancel(signalled{s})
				}
			case <-done:
				return
			}
		}
	}()
	err := f(ctx)
	close(done)
	<-stopped
	var ended signalled
	if !errors.As(context.Cause(ctx), &ended) {
		return err
	}
	if err != nil {
		return &exit{codeOf(ended), err}
	}
	select {
	case signals <- ended.signal:
	default: // full of others that end COMMAND
	}
	return nil
}
