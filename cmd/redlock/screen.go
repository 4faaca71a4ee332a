package main

import (
	"fmt"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

// screen draws text on a terminal, over what was there before.
type screen struct{ fd int }

// newScreen turns to the terminal's other screen, so that what stands on the first one is there
// again afterwards.
func newScreen() *screen {
	enableEscapes()
	fmt.Print("\x1b[?1049h\x1b[?25l") // the other screen, no cursor
	return &screen{int(os.Stdout.Fd())}
}

func (s *screen) restore() { fmt.Print("\x1b[?25h\x1b[?1049l") }

// draw shows as much of a text as there is room for, in one write.
func (s *screen) draw(text string) error {
	width, height, err := term.GetSize(s.fd)
	if err != nil || width < 1 || height < 1 {
		width, height = 80, 24
	}
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if len(lines) > height {
		more := len(lines) - height + 1
		lines = append(lines[:height-1], fmt.Sprintf("... and %d more", more))
	}
	var b strings.Builder
	b.WriteString("\x1b[H") // the upper left corner
	for i, line := range lines {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(cut(line, width) + "\x1b[K") // and nothing to the right of it
	}
	b.WriteString("\x1b[J") // nor below
	_, err = os.Stdout.WriteString(b.String())
	return err
}

// cut returns as much of a line as fits into a width.
func cut(line string, width int) string {
	if utf8.RuneCountInString(line) <= width {
		return line
	}
	return string([]rune(line)[:width])
}
