package promredlock

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// Option changes what [New] returns.
type Option func(*config)

type config struct {
	group     func(resource string) string
	histogram func(*prometheus.HistogramOpts)
}

func newConfig(opts []Option) config {
	c := config{
		group:     func(string) string { return "" },
		histogram: func(*prometheus.HistogramOpts) {},
	}
	for _, o := range opts {
		o(&c)
	}
	return c
}

// WithGroup sets what makes the label group of a resource's name. It is called for each event, from
// many goroutines at the same time, and should return few different values: each has metrics of its
// own, which stay for as long as the process lives. By default, and with nil, there is one group,
// "".
//
// [BeforeColon] is such a function.
func WithGroup(group func(resource string) string) Option {
	return func(c *config) {
		if group != nil {
			c.group = group
		}
	}
}

// BeforeColon returns what stands before the first colon of a name: "order" for "order:42", and ""
// for a name without one.
func BeforeColon(resource string) string {
	before, _, found := strings.Cut(resource, ":")
	if !found {
		return ""
	}
	return before
}

// WithHistograms sets a function that may change how each histogram is made: its buckets, or to be
// a native histogram. It is called once for each in [New], with what that would use; o.Name says
// which it is. A name that is changed is no longer that of otelredlock, the dashboard and the alert
// rules.
func WithHistograms(change func(o *prometheus.HistogramOpts)) Option {
	return func(c *config) {
		if change != nil {
			c.histogram = change
		}
	}
}
