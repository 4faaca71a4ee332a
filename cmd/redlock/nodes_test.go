//go:build unix

package main_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/redistest"
)

func TestNodesThatAreNoURLs(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"localhost:6379":                              "begins with redis://",
		"http://u:secret@a:1":                         "begins with redis://",
		"redis://a,":                                  "node 1 of --nodes",
		"redis://u:sec/ret@a:1":                       "special characters in a password",
		"redis://u:secret@a:port":                     "special characters in a password",
		"redis://u:secret@a/no-number":                "not a valid URL",
		"redis://u:secret@a?read_timeout=9s":          "read_timeout cannot be set",
		"redis://u:secret@a?nonsense=1":               "unexpected option: nonsense",
		"redis://u:secret@a:1,redis://u:secret@a:1/2": "are one server",
	} {
		for _, p := range []*process{
			prepare(t, nil, "status", "--nodes", url, "job"), prepare(t, nil, "status", "job"),
		} {
			p.Env = append(p.Env, "REDLOCK_NODES="+url)
			p.start()
			r := p.finish()
			require.Equal(t, 125, r.code, url)
			require.Contains(t, r.stderr, want, url)
			require.NotContains(t, r.stderr, "sec", url)
		}
	}
}

func TestPasswordSocketAndPrefix(t *testing.T) {
	t.Parallel()
	servers := one(t)
	s := servers[0]
	s.Do(t, "acl", "setuser", "locker", "on", ">p@ss,word", "~my:*", "~{my:*", "&redlock:*",
		"+@all")
	with := func(user string, args ...string) result {
		return redlock(t, nil, append([]string{"--nodes=redis://" + user + s.Addr()}, args...)...)
	}
	with("locker:p%40ss%2Cword@", "acquire", "--prefix=my", "job").requireCode(t, 0)
	require.Equal(t, []string{"my:job"}, s.Keys(t))
	require.Contains(t, with("locker:p%40ss%2Cword@", "acquire", "-n", "job").requireCode(t,
		125).stderr, "NOPERM")
	require.Contains(t, with("locker:wrong@", "acquire", "job").requireCode(t, 125).stderr,
		"WRONGPASS")

	p := prepare(t, servers, "status", "my:job")
	p.Env = append(p.Env, "REDLOCK_PREFIX=")
	p.start()
	p.finish().requireCode(t, 1)

	p = prepare(t, servers, "status", "--prefix=", "my:job")
	p.start()
	p.finish().requireCode(t, 1)
}

func TestSocket(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "redlock") // a socket's path must be short
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	socket := filepath.Join(dir, "s")
	s := redistest.Start(t, redistest.WithConfig("unixsocket", socket))
	redlock(t, nil, "--nodes=unix://"+socket, "acquire", "job").requireCode(t, 0)
	require.Equal(t, []string{"lock:job"}, s.Keys(t))
}
