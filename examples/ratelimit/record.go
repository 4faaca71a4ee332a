package main

import (
	"context"
	"fmt"
	"time"
)

// record is what was asked and allowed.
type record struct {
	asked, refused int
	// by client: the number of each allowed request within its window
	numbers map[string][]int64
}

// ask makes requests for all clients in turn until the time is over.
func (r *record) ask(ctx context.Context, l limiter, until time.Time) error {
	r.numbers = map[string][]int64{}
	for time.Now().Before(until) {
		for _, client := range clients {
			number, err := l.allow(ctx, client)
			if err != nil {
				return err
			}
			r.asked++
			if number == 0 {
				r.refused++
				continue
			}
			r.numbers[client] = append(r.numbers[client], number)
		}
		if err := pretend(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

func (r *record) add(other record) {
	if r.numbers == nil {
		r.numbers = map[string][]int64{}
	}
	r.asked += other.asked
	r.refused += other.refused
	for client, numbers := range other.numbers {
		r.numbers[client] = append(r.numbers[client], numbers...)
	}
}

// check tells whether the limit was kept. Each window begins with a number 1, so the ones count the
// windows: there cannot be more of them than the time allows, nor any number more often than there
// were windows.
func (r *record) check(kind string, took time.Duration,
	say func(who, format string, args ...any)) error {
	for _, client := range clients {
		times := map[int64]int{}
		for _, number := range r.numbers[client] {
			times[number]++
			if number > limit {
				return fmt.Errorf("%s made request %d of %d in one window", client, number, limit)
			}
		}
		windows, most := times[1], int(took/window)+1
		if windows == 0 || windows > most {
			return fmt.Errorf("%s had %d windows in %v", client, windows, took)
		}
		for number, n := range times {
			if n > windows {
				return fmt.Errorf("%s was given the number %d %d times in %d windows", client,
					number, n, windows)
			}
		}
		say(kind, "%s: %d requests allowed in %d windows", client, len(r.numbers[client]), windows)
	}
	if r.refused == 0 {
		return fmt.Errorf("none of %d requests was refused: the limit was not put to the test",
			r.asked)
	}
	say(kind, "%d requests refused, of %d", r.refused, r.asked)
	return nil
}
