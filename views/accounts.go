package views

import (
	"context"
	"fmt"

	"freshet"
	"freshet/internal/events"
	"freshet/internal/kafka"
	"freshet/processors/directory"
)

// Accounts looks accounts up by id and by number, in the directory's table. It is safe for concurrent use.
type Accounts struct {
	*table
	rows  *rowCache[*events.DirectoryRow]
	cache *accountCache
}

// maxCachedAccounts bounds the decoded rows that are kept, two for each account: about 60 MB. Half as many accounts are
// kept by number, in some 20 MB.
const maxCachedAccounts = 200_000

// NewAccounts opens the view; the caller runs it.
func NewAccounts(brokers []string, names freshet.Names, settings kafka.ViewSettings) (*Accounts, error) {
	a := &Accounts{
		rows:  newRowCache(maxCachedAccounts, func(*events.DirectoryRow) int { return 1 }),
		cache: newAccountCache(maxCachedAccounts / 2),
	}
	t, err := openTable(brokers, names.Table(freshet.DirectoryGroup), directory.Table, func(key string, _ []byte) {
		a.rows.invalidate(key)
		a.cache.invalidate(key) // last: what it keeps afterwards was made of rows that were read afterwards
	}, settings)
	if err != nil {
		return nil, err
	}
	a.table = t
	return a, nil
}

// ByID returns the account that has the id, closed or not; false if none ever had.
func (a *Accounts) ByID(id freshet.AccountID) (freshet.Account, bool, error) {
	row, err := a.directoryRow(string(id))
	if err != nil || row.GetId() == "" { // a row without an id waits for its registration
		return freshet.Account{}, false, err
	}
	return row.Account(), true, nil
}

// ByNumber returns the account of a number; false if no account has it. An account whose id was registered again is
// closed, and only ID, Number and Closed are known of it.
func (a *Accounts) ByNumber(n freshet.Number) (freshet.Account, bool, error) {
	if err := a.isOpen(); err != nil {
		return freshet.Account{}, false, err
	}
	account, ok, ticket := a.cache.get(n)
	if ok {
		return account, true, nil
	}
	account, ok, err := a.byNumber(n)
	if err == nil && ok {
		a.cache.put(n, account, ticket)
	}
	return account, ok, err
}

func (a *Accounts) byNumber(n freshet.Number) (freshet.Account, bool, error) {
	row, err := a.directoryRow(freshet.NumberKey(n))
	if err != nil || row.GetId() == "" {
		return freshet.Account{}, false, err
	}
	account, ok, err := a.ByID(freshet.AccountID(row.GetId()))
	switch {
	case err != nil || !ok:
		return freshet.Account{}, false, err
	case account.Number != n:
		return freshet.Account{ID: account.ID, Number: n, Closed: true}, true, nil
	}
	return account, true, nil
}

// AwaitRegistration waits until the id's row has applied the registration at an offset and the account that has the id
// then can be found by its number too, and returns it. The error wraps ErrNotVisible when ctx ends before that.
func (a *Accounts) AwaitRegistration(ctx context.Context, id freshet.AccountID, offset int64) (freshet.Account, error) {
	err := a.await(ctx, string(id), func() (bool, error) {
		row, err := a.directoryRow(string(id))
		return row.GetId() != "" && row.GetNextRegistration() > offset, err
	})
	if err != nil {
		return freshet.Account{}, err
	}
	account, _, err := a.ByID(id)
	if err != nil {
		return freshet.Account{}, err
	}
	err = a.await(ctx, freshet.NumberKey(account.Number), func() (bool, error) {
		row, err := a.directoryRow(freshet.NumberKey(account.Number))
		return row != nil, err
	})
	return account, err
}

// AwaitProfile waits until the id's row has applied the profile at an offset. The error wraps ErrNotVisible when ctx
// ends before that.
func (a *Accounts) AwaitProfile(ctx context.Context, id freshet.AccountID, offset int64) error {
	err := a.await(ctx, string(id), func() (bool, error) {
		row, err := a.directoryRow(string(id))
		return row.GetNextProfile() > offset, err
	})
	// The row may have been seen before its update has come to the other cache, and what it says is about to be answered.
	a.cache.invalidate(string(id))
	return err
}

// isOpen: the caches outlive the view.
func (a *Accounts) isOpen() error {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.answers()
}

// directoryRow is shared: nobody changes it.
func (a *Accounts) directoryRow(key string) (*events.DirectoryRow, error) {
	if err := a.isOpen(); err != nil {
		return nil, err
	}
	return a.rows.get(key, func() (*events.DirectoryRow, error) {
		switch row, err := a.row(key); row := row.(type) {
		case nil:
			return nil, err
		case *events.DirectoryRow:
			return row, nil
		default:
			return nil, fmt.Errorf("look %q up in %s: the codec made a %T", key, a.view.Topic(), row)
		}
	})
}
