// Command benchmarks compares redlock with other lock libraries on real servers.
//
// It starts five redis-server processes and runs each scenario with every library in turn, round
// after round, so that whatever disturbs the machine disturbs all of them. It prints Markdown
// tables: medians over the rounds, ratios that were taken round by round, and which of the figures
// that redlock is to reach were met.
//
//	go run .                                             # everything: about seventeen minutes
//	go run . -only uncontended -json rounds.json         # one scenario
//	go run . -doc ../docs/benchmarks.md -svg plots       # for the documentation
//
// Everybody has stock client options: one go-redis client for each node, with nothing set but the
// address. The pool of such a client grows to ten connections per processor, and that is what
// hundreds of goroutines share. The floor is no library: it is the two scripts that any lock needs,
// sent to all nodes at once, without deadlines, clean-up or random tokens.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "benchmarks:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) (err error) {
	s := settings{slow: true, locks: 10_000, heldTTL: 9 * time.Second, heldFor: 12 * time.Second}
	flags := flag.NewFlagSet("benchmarks", flag.ContinueOnError)
	only := flags.String("only", "", "scenarios to run, separated by commas: "+
		strings.Join(names(), ", "))
	flags.IntVar(&s.rounds, "rounds", 7, "rounds of each comparison")
	flags.DurationVar(&s.duration, "duration", time.Second, "of one round of one library")
	svg := flags.String("svg", "", "directory to write plots to")
	doc := flags.String("doc", "",
		"Markdown file to put the figures into, between its lines that say so")
	jsonFile := flags.String("json", "", "file to write every round to")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	chosen, err := choose(*only)
	if err != nil {
		return err
	}
	if s.rounds < 1 || s.duration <= 0 {
		return fmt.Errorf("there must be a round, and it must last (rounds %d, duration %v)",
			s.rounds, s.duration)
	}

	dir, err := os.MkdirTemp("", "redlock-benchmarks-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	servers, err := launch(dir)
	if err != nil {
		return err
	}
	f := newField(servers)
	defer func() { err = errors.Join(err, f.close(), stop(servers)) }()

	about := circumstances(ctx, f, s)
	fmt.Printf("%s\n\n", about)
	var groups []group
	for _, sc := range chosen {
		more, err := sc.run(ctx, f, s)
		if err != nil {
			return fmt.Errorf("%s: %w", sc.name, err)
		}
		for _, g := range more {
			g.table(os.Stdout)
		}
		groups = append(groups, more...)
	}
	summary(os.Stdout, groups)
	if *doc != "" {
		err = writeDoc(*doc, about, groups)
	}
	return errors.Join(err, plot(*svg, groups), save(*jsonFile, about, groups))
}

func names() []string {
	var names []string
	for _, sc := range scenarios {
		names = append(names, sc.name)
	}
	return names
}

// choose returns the scenarios in the list, or all of them if it is empty.
func choose(list string) ([]scenario, error) {
	if list == "" {
		return scenarios, nil
	}
	var chosen []scenario
	for name := range strings.SplitSeq(list, ",") {
		i := slices.IndexFunc(scenarios,
			func(sc scenario) bool { return sc.name == strings.TrimSpace(name) })
		if i < 0 {
			return nil, fmt.Errorf("there is no scenario %q, only %s", name,
				strings.Join(names(), ", "))
		}
		chosen = append(chosen, scenarios[i])
	}
	return chosen, nil
}

// save writes every round to a file, if there is to be one.
func save(name, about string, groups []group) (err error) {
	if name == "" {
		return nil
	}
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return writeJSON(file, about, groups)
}
