package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// election is three processes of this program, each of them a candidate.
type election struct {
	addrs, prefix string
	candidates    []*candidate
	lines         chan line
	wg            sync.WaitGroup // of those who read what the candidates say
}

type candidate struct {
	name string
	cmd  *exec.Cmd
}

// line is what a candidate has said.
type line struct {
	from *candidate
	text string
	at   time.Time
}

// enter starts candidates.
func (e *election) enter(names ...string) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := e.start(program, name); err != nil {
			return err
		}
	}
	return nil
}

func (e *election) start(program, name string) error {
	c := &candidate{name, exec.Command(program, "-candidate", name, "-redis", e.addrs, "-prefix",
		e.prefix)}
	c.cmd.Stderr = os.Stderr
	said, err := c.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := c.cmd.Start(); err != nil {
		return err
	}
	e.candidates = append(e.candidates, c)
	e.wg.Add(1)
	go e.listen(c, said)
	return nil
}

// listen passes on what a candidate says, until it is gone.
func (e *election) listen(c *candidate, said io.Reader) {
	defer e.wg.Done()
	for scanner := bufio.NewScanner(said); scanner.Scan(); {
		fmt.Println(scanner.Text())
		e.lines <- line{c, scanner.Text(), time.Now()}
	}
}

// nextLeader waits until a candidate says that it leads.
func (e *election) nextLeader(ctx context.Context) (*candidate, time.Time, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 10*ttl, errors.New("nobody leads"))
	defer cancel()
	for {
		select {
		case l := <-e.lines:
			if strings.HasSuffix(l.text, " leads") {
				return l.from, l.at, nil
			}
		case <-ctx.Done():
			return nil, time.Time{}, context.Cause(ctx)
		}
	}
}

// end asks all candidates to leave, and waits until they are gone.
func (e *election) end() error {
	for _, c := range e.candidates {
		_ = c.cmd.Process.Signal(os.Interrupt) // it may be gone
	}
	go func() {
		e.wg.Wait()
		close(e.lines)
	}()
	for range e.lines { // what they still have to say is printed
	}
	var errs []error
	for _, c := range e.candidates {
		err := c.cmd.Wait()
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() < 0 {
			err = nil // killed
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
