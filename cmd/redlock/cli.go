package main

import (
	"fmt"
	"os"
	"reflect"
	"runtime/debug"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

// cli is the grammar of the command line.
type cli struct {
	globals

	Run     runCmd     `cmd:"" help:"Run a command under a lock."`
	Acquire acquireCmd `cmd:"" help:"Take a lock, print its token and let it expire."`
	Extend  extendCmd  `cmd:"" help:"Extend a lock that acquire or run has taken."`
	Release releaseCmd `cmd:"" help:"Give up a lock, or take it from its owner."`
	Wait    waitCmd    `cmd:"" help:"Wait until a lock is free."`
	Status  statusCmd  `cmd:"" help:"Say whether locks are free."`
	Top     topCmd     `cmd:"" help:"Show the locks there are, live."`
	Check   checkCmd   `cmd:"" help:"Say what is wrong with the nodes."`
}

// globals are the flags of all commands.
type globals struct {
	Nodes   string           `group:"common" placeholder:"URL,..." env:"REDLOCK_NODES" help:"The Redis masters: one, or three or five that do not replicate each other. Everybody who shares locks names the same ones. redis://, rediss:// (TLS) or unix://."`
	Prefix  string           `group:"common" placeholder:"P" default:"lock" env:"REDLOCK_PREFIX" help:"What the keys of locks begin with: lock by default."`
	Verbose bool             `group:"common" short:"v" help:"Say what is going on."`
	Version kong.VersionFlag `group:"common" help:"Print the version."`
}

const description = `Locks on Redis for scripts. A lock is held on one server, or on a majority of three or five independent
ones, and renewed while a command runs:

    export REDLOCK_NODES=redis://a:6379,redis://b:6379,redis://c:6379
    redlock run nightly-report -- ./report.sh

Durations are seconds (90, 0.5) or have units (1m30s, 500ms). The exit status is COMMAND's own, or

    69     too few nodes answer
    75     somebody else has the lock
    124    the lock was lost
    125    redlock was used or configured wrongly
    126    COMMAND cannot be run
    127    COMMAND was not found
    128+N  signal N ended COMMAND, or the wait for the lock`

// usage is how each command is called.
var usage = map[string]string{
	"run":     "run [flags] NAME [--] COMMAND [ARG...]",
	"acquire": "acquire [flags] NAME",
	"extend":  "extend --token T [flags] NAME",
	"release": "release --token T [flags] NAME\n       redlock release --force [flags] NAME",
	"wait":    "wait [flags] NAME",
	"status":  "status [flags] NAME...",
	"top":     "top [flags] [PATTERN]",
	"check":   "check [flags]",
}

// help prints the help of a command, or of all.
func help(options kong.HelpOptions, ctx *kong.Context) error {
	how := "COMMAND [flags]"
	if selected := ctx.Selected(); selected != nil {
		how = usage[selected.Name]
	}
	fmt.Fprintf(ctx.Stdout, "Usage: redlock %s\n", how)
	options.NoAppSummary, options.FlagsLast = true, true
	return kong.DefaultHelpPrinter(options, ctx)
}

// version is set by the linker in a release.
var version string

// execute does what the arguments say and returns the exit code.
func execute(args []string) int {
	c := &cli{}
	parser := kong.Must(c,
		kong.Name("redlock"), kong.Description(description),
		kong.Vars{"version": ownVersion()},
		kong.TypeMapper(reflect.TypeFor[time.Duration](), kong.MapperFunc(decodeDuration)),
		kong.Help(help),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true,
			WrapUpperBound: 100}),
		kong.ExplicitGroups([]kong.Group{{Key: "common", Title: "Flags of all commands:"}}),
	)
	parsed, err := parser.Parse(args)
	if err != nil {
		return finish(usageError(parsed, err))
	}
	return finish(parsed.Run(&c.globals))
}

// usageError adds where help is to be found.
func usageError(parsed *kong.Context, err error) error {
	command := "redlock"
	if failed, ok := err.(*kong.ParseError); ok {
		parsed = failed.Context
	}
	if parsed != nil && parsed.Selected() != nil {
		command += " " + parsed.Selected().Name
	}
	return &exit{codeSelf, fmt.Errorf("%w (see %s --help)", err, command)}
}

// finish says what went wrong, if anything has, and returns the exit code.
func finish(err error) int {
	code := codeOf(err)
	if err != nil && err.Error() != "" {
		complain(err)
	}
	return code
}

// complain writes an error to the standard error.
func complain(err error) {
	for _, line := range strings.Split(err.Error(), "\n") {
		fmt.Fprintln(os.Stderr, "redlock: "+strings.TrimPrefix(line, "redlock: "))
	}
}

func ownVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return "unknown"
}
