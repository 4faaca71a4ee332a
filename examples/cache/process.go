package main

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rediskit/redlock"
)

// process is one server of the site.
type process struct {
	name   string
	locker *redlock.Locker
	site   *site
}

// getOrWait returns the page. If it is not in the cache, one process builds it and the others wait.
func (p *process) getOrWait(ctx context.Context) (string, error) {
	page, fresh, err := p.site.pages.get(ctx)
	if err != nil || fresh {
		return page, err
	}
	err = p.locker.Do(ctx, "page", func(ctx context.Context) (err error) {
		page, err = p.rebuild(ctx)
		return err
	})
	if errors.Is(err, redlock.ErrNoQuorum) || errors.Is(err, redlock.ErrLost) {
		return p.site.build(ctx, p.name) // twice is better than not at all
	}
	return page, err
}

// getOrStale returns the page, out of date if need be. One process builds it anew, and only that
// one waits.
func (p *process) getOrStale(ctx context.Context) (string, error) {
	page, fresh, err := p.site.pages.get(ctx)
	if err != nil || fresh {
		return page, err
	}
	err = p.locker.TryDo(ctx, "page", func(ctx context.Context) (err error) {
		page, err = p.rebuild(ctx)
		return err
	})
	switch {
	case page == "":
		return p.getOrWait(ctx) // there is nothing old to serve
	case errors.Is(err, redlock.ErrHeld), errors.Is(err, redlock.ErrNoQuorum),
		errors.Is(err, redlock.ErrLost):
		return page, nil
	default:
		return page, err
	}
}

// rebuild runs under the lock. It looks once more: whoever had the lock before has filled the cache
// most likely.
func (p *process) rebuild(ctx context.Context) (string, error) {
	page, fresh, err := p.site.pages.get(ctx)
	if err != nil || fresh {
		return page, err
	}
	page, err = p.site.build(ctx, p.name)
	if err != nil {
		return "", err
	}
	return page, p.site.pages.put(ctx, page)
}

const (
	freshFor = 10 * time.Minute
	keptFor  = time.Hour // what is out of date can still be served
)

// store is the cache: a page, and a mark that it is fresh. Both are on one node and have nothing to
// do with locks.
type store struct {
	data *redis.Client
	name string
}

// get returns what is in the cache, "" if nothing is.
func (s *store) get(ctx context.Context) (page string, fresh bool, err error) {
	found, err := s.data.MGet(ctx, s.name+":content", s.name+":fresh").Result()
	if err != nil {
		return "", false, err
	}
	page, _ = found[0].(string)
	return page, page != "" && found[1] != nil, nil
}

func (s *store) put(ctx context.Context, page string) error {
	_, err := s.data.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.Set(ctx, s.name+":content", page, keptFor)
		p.Set(ctx, s.name+":fresh", "yes", freshFor)
		return nil
	})
	return err
}

// outdate is what an editor does.
func (s *store) outdate(ctx context.Context) error { return s.data.Del(ctx, s.name+":fresh").Err() }

// drop removes the page, also when ctx has ended.
func (s *store) drop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return s.data.Del(ctx, s.name+":content", s.name+":fresh").Err()
}
