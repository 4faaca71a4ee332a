package integrations_test

import (
	"context"
	"testing"

	"github.com/go-co-op/gocron/v2"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/integrations"
)

func TestGocronRunsAJobOnceAndLeavesNothing(t *testing.T) {
	servers, clients := masters(t, 3)
	ran := make(chan string, 100)
	var schedulers []gocron.Scheduler
	for _, host := range []string{"host-a", "host-b"} {
		s, err := integrations.NewScheduler(open(t, clients, redlock.WithOwner(host)))
		require.NoError(t, err)
		sendInvoices := func(ctx context.Context) {
			ran <- host
			<-ctx.Done() // until Shutdown
		}
		_, err = s.NewJob(
			gocron.CronJob("* * * * * *", true), // with seconds
			gocron.NewTask(sendInvoices), gocron.WithName("invoices"),
		)
		require.NoError(t, err)
		s.Start()
		schedulers = append(schedulers, s)
	}
	winner := receive(t, ran, "the job")
	ticks(t, 3)
	require.Empty(t, ran, "the job runs twice at a time")
	loser := map[string]int{"host-a": 1, "host-b": 0}[winner]
	require.NoError(t, schedulers[loser].Shutdown())
	require.NoError(t, schedulers[1-loser].Shutdown())
	noKeys(t, servers)
}
