package views

import (
	"context"
	"fmt"

	"freshet"
	"freshet/internal/kafka"
	"freshet/processors/following"
)

// Following looks up whom an account follows, mutes and blocks. Each API process keeps a full copy of the table on its
// disk. It is safe for concurrent use.
type Following struct {
	*table
	rows    *rowCache[*freshet.Following]
	noticed func(freshet.Number)
}

// NewFollowing opens the view; the caller runs it.
func NewFollowing(brokers []string, names freshet.Names, settings kafka.ViewSettings) (*Following, error) {
	f := &Following{rows: newRowCache(maxCachedRelations, costOfRow)}
	t, err := openTable(brokers, names.Table(freshet.FollowingGroup), following.Table{},
		func(key string, _ []byte) { f.changed(key) }, settings)
	if err != nil {
		return nil, err
	}
	f.table = t
	return f, nil
}

// Notice has f called with each account whose row has changed: after look-ups find the new row, and before those who
// wait for it are woken. It is set before Run; f must not block.
func (f *Following) Notice(changed func(freshet.Number)) { f.noticed = changed }

func (f *Following) changed(key string) {
	f.rows.invalidate(key)
	if f.noticed == nil {
		return
	}
	if n, err := freshet.ParseNumber(key); err == nil { // no account has any other key
		f.noticed(n)
	}
}

// Row is the account's row, nil for one that has never followed, muted or blocked anyone. It is shared: callers do not
// change it.
func (f *Following) Row(n freshet.Number) (*freshet.Following, error) {
	f.mu.RLock() // the cache outlives the view
	err := f.answers()
	f.mu.RUnlock()
	if err != nil {
		return nil, err
	}
	key := n.Key()
	return f.rows.get(key, func() (*freshet.Following, error) {
		switch row, err := f.row(key); row := row.(type) {
		case nil:
			return nil, err
		case *freshet.Following:
			return row, nil
		default:
			return nil, fmt.Errorf("look %q up in %s: the codec made a %T", key, f.view.Topic(), row)
		}
	})
}

// All goes over the rows of all accounts, in no order that means anything, until visit returns an error, which it
// returns. Rows are as they were when it began; visit may keep them.
func (f *Following) All(visit func(freshet.Number, *freshet.Following) error) error {
	return f.each(func(key string, row any) error {
		n, err := freshet.ParseNumber(key)
		following, ok := row.(*freshet.Following)
		if err != nil || !ok {
			return fmt.Errorf("a row %q of %s, of type %T: %w", key, f.view.Topic(), row, err)
		}
		return visit(n, following)
	})
}

// AwaitApplied waits until the account's row has applied the follows record at an offset. The error wraps ErrNotVisible
// when ctx ends before that.
func (f *Following) AwaitApplied(ctx context.Context, n freshet.Number, offset int64) error {
	return f.await(ctx, n.Key(), func() (bool, error) {
		row, err := f.Row(n)
		return row != nil && row.Next > offset, err
	})
}
