package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// printable returns a name as it is if a terminal shows it as it is, else quoted: names and labels
// are other people's.
func printable(name string) string {
	if name == "" || strings.ContainsFunc(name,
		func(r rune) bool { return !strconv.IsPrint(r) || r == '\uFFFD' }) {
		return strconv.Quote(name)
	}
	return name
}

// quoted lists names for a message.
func quoted(names ...string) string {
	all := make([]string, len(names))
	for i, n := range names {
		all[i] = strconv.Quote(n)
	}
	return strings.Join(all, ", ")
}

// expiry says when a lock ends unless its owner does something.
func expiry(ttl time.Duration) string {
	if ttl < 0 {
		return "never expires"
	}
	return "expires in " + short(ttl)
}

// short returns a duration as people like to read it.
func short(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d < 24*time.Hour:
		return d.Round(time.Second).String()
	default:
		return fmt.Sprintf("%dd%dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
	}
}

// table aligns the columns of rows.
func table(out io.Writer, rows [][]string) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.StripEscape)
	for _, row := range rows {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	return w.Flush()
}

// withoutEmpty removes the columns in which no row below the head has anything.
func withoutEmpty(rows [][]string) [][]string {
	if len(rows) < 2 {
		return rows
	}
	kept := make([][]string, len(rows))
	for column := range rows[0] {
		if !slices.ContainsFunc(rows[1:], func(row []string) bool { return row[column] != "-" }) {
			continue
		}
		for i, row := range rows {
			kept[i] = append(kept[i], row[column])
		}
	}
	return kept
}
