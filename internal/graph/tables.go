package graph

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/IBM/sarama"
	"golang.org/x/sync/errgroup"

	"freshet"
	"freshet/internal/kafka"
	"freshet/internal/tables"
	"freshet/views"
)

// copies are the tables of the directory and of following, in a directory that goes with them.
type copies struct {
	accounts *views.Accounts
	rows     *views.Following
	stop     func() error
}

// openCopies returns when both tables are here in full. What it returns has to be stopped. When one of the views ends
// before that, cancel is called.
func openCopies(ctx context.Context, brokers []string, names freshet.Names,
	config func(clientID string) *sarama.Config, log *slog.Logger, cancel context.CancelCauseFunc) (*copies, error) {
	dir, err := os.MkdirTemp("", "freshet-import-")
	if err != nil {
		return nil, fmt.Errorf("make a directory for copies of the tables: %w", err)
	}
	remove := func() error { return os.RemoveAll(dir) }
	local, err := tables.Open(dir)
	if err != nil {
		return nil, errors.Join(err, remove())
	}
	own := local.View("import")
	settings := func(name string) kafka.ViewSettings {
		return kafka.ViewSettings{
			ClientID: "import-" + name, Config: config, Storage: own.Builder, Update: own.Update, Logger: log,
		}
	}
	// One after the other, because a view that was opened has to run to be closed.
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	var g errgroup.Group
	run := func(view interface{ Run(context.Context) error }) {
		g.Go(func() error {
			err := view.Run(running)
			if running.Err() == nil {
				cancel(fmt.Errorf("a copy of a table ended: %w", err))
			}
			return err
		})
	}
	c := &copies{stop: func() error {
		stop()
		return errors.Join(g.Wait(), local.Close(), remove())
	}}
	if c.accounts, err = views.NewAccounts(brokers, names, settings("accounts")); err != nil {
		return nil, errors.Join(err, c.stop())
	}
	run(c.accounts)
	if c.rows, err = views.NewFollowing(brokers, names, settings("following")); err != nil {
		return nil, errors.Join(err, c.stop())
	}
	run(c.rows)
	for _, ready := range []<-chan struct{}{c.accounts.Ready(), c.rows.Ready()} {
		select {
		case <-ready:
		case <-ctx.Done():
			return nil, errors.Join(context.Cause(ctx), c.stop())
		}
	}
	return c, nil
}
