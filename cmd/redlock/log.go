package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"
)

// newLogger returns a logger for people who read a terminal or a mail of cron: warnings, and with
// verbose everything.
func newLogger(verbose bool) *slog.Logger {
	least := slog.LevelWarn
	if verbose {
		least = slog.LevelInfo
	}
	return slog.New(&lineHandler{out: os.Stderr, least: least})
}

// lineHandler writes a record as one line: redlock: message (key value, key value). The library
// logs from one goroutine, and a line is one write.
type lineHandler struct {
	out   io.Writer
	least slog.Level
	attrs []slog.Attr
}

func (h *lineHandler) Enabled(_ context.Context, level slog.Level) bool { return level >= h.least }

func (h *lineHandler) Handle(_ context.Context, r slog.Record) error {
	var parts []string
	add := func(a slog.Attr) bool {
		value := a.Value.Resolve()
		text := value.String()
		if value.Kind() == slog.KindDuration {
			text = value.Duration().Round(time.Millisecond).String()
		}
		parts = append(parts, a.Key+" "+strings.ReplaceAll(text, "redlock: ", ""))
		return true
	}
	for _, a := range h.attrs {
		add(a)
	}
	r.Attrs(add)
	line := "redlock: " + strings.TrimPrefix(r.Message, "redlock: ")
	if len(parts) > 0 {
		line += " (" + strings.Join(parts, ", ") + ")"
	}
	_, err := io.WriteString(h.out, line+"\n")
	return err
}

func (h *lineHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *h
	c.attrs = append(append([]slog.Attr(nil), h.attrs...), attrs...)
	return &c
}

func (h *lineHandler) WithGroup(string) slog.Handler { return h } // the library uses none
