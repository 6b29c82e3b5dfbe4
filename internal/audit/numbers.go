package audit

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"freshet"
	"freshet/internal/kafka"
	"freshet/internal/tables"
	"freshet/views"
)

// ErrNoAccount is wrapped by the error for an id that no account has.
var ErrNoAccount = errors.New("there is no such account")

// Numbers finds accounts by their ids, from a copy of the directory's table alone.
func Numbers(ctx context.Context, cfg Config, ids []freshet.AccountID) (all []freshet.Number, err error) {
	local, err := tables.Open(filepath.Join(cfg.Dir, "tables"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, local.Close()) }()
	own := local.View("audit")
	accounts, err := views.NewAccounts(cfg.Brokers, cfg.Names, kafka.ViewSettings{
		ClientID: "audit-accounts", Config: cfg.Sarama, Storage: own.Builder, Update: own.Update, Logger: cfg.Logger,
	})
	if err != nil {
		return nil, err
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- accounts.Run(running) }()
	defer func() { stop(); err = errors.Join(err, <-ended) }()
	select {
	case <-accounts.Ready():
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	for _, id := range ids {
		account, found, err := accounts.ByID(id)
		if err != nil {
			return nil, err
		}
		if !found {
			return nil, fmt.Errorf("account %s: %w", id, ErrNoAccount)
		}
		all = append(all, account.Number)
	}
	return all, nil
}

// Size is how many registrations each partition has now; every account's number is among them.
func Size(ctx context.Context, cfg Config) (map[int32]int64, error) {
	lookup, err := kafka.NewLookup(cfg.Brokers, kafka.ClientOptions(cfg.Sarama)...)
	if err != nil {
		return nil, err
	}
	defer lookup.Close()
	s := Sources{cfg: cfg, lookup: lookup}
	return s.ends(ctx, cfg.Names.Topic(freshet.Registrations))
}
