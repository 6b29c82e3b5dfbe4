package posts

import (
	"context"
	"fmt"
	"sync/atomic"

	"freshet"
)

// ErrNotOpen is returned by a Late store that has not been opened yet. It is a way of being away.
var ErrNotOpen = fmt.Errorf("%w: it has not been reached yet", freshet.ErrStoreAway)

// Late is a store that is used before it can be reached: until Opened, all it answers is ErrNotOpen. It is safe for
// concurrent use.
type Late struct{ store atomic.Pointer[Database] }

var _ Database = (*Late)(nil)

// Opened gives it the store that answers from now on, and that Close closes.
func (l *Late) Opened(store Database) { l.store.Store(&store) }

func (l *Late) opened() (Database, error) {
	if store := l.store.Load(); store != nil {
		return *store, nil
	}
	return nil, ErrNotOpen
}

// Apply implements Store.
func (l *Late) Apply(ctx context.Context, events []Event) error {
	store, err := l.opened()
	if err != nil {
		return err
	}
	return store.Apply(ctx, events)
}

// ApplyFollowers implements Store.
func (l *Late) ApplyFollowers(ctx context.Context, changes []FollowerChange) error {
	store, err := l.opened()
	if err != nil {
		return err
	}
	return store.ApplyFollowers(ctx, changes)
}

// Posts implements Store.
func (l *Late) Posts(ctx context.Context, ids []freshet.PostID) (map[freshet.PostID]freshet.Post, error) {
	store, err := l.opened()
	if err != nil {
		return nil, err
	}
	return store.Posts(ctx, ids)
}

// ByAuthor implements Store.
func (l *Late) ByAuthor(ctx context.Context, author freshet.Number, before freshet.PostID, limit int) ([]freshet.Post,
	error) {
	store, err := l.opened()
	if err != nil {
		return nil, err
	}
	return store.ByAuthor(ctx, author, before, limit)
}

// IDsByAuthor implements Store.
func (l *Late) IDsByAuthor(ctx context.Context, author freshet.Number, limit int) ([]freshet.PostID, error) {
	store, err := l.opened()
	if err != nil {
		return nil, err
	}
	return store.IDsByAuthor(ctx, author, limit)
}

// Followers implements Store.
func (l *Late) Followers(ctx context.Context, followee, from freshet.Number, limit int) ([]freshet.Number, error) {
	store, err := l.opened()
	if err != nil {
		return nil, err
	}
	return store.Followers(ctx, followee, from, limit)
}

// Progress implements Store.
func (l *Late) Progress(ctx context.Context) (map[int32]Progress, error) {
	store, err := l.opened()
	if err != nil {
		return nil, err
	}
	return store.Progress(ctx)
}

// SetProgress implements Store.
func (l *Late) SetProgress(ctx context.Context, partition int32, p Progress) error {
	store, err := l.opened()
	if err != nil {
		return err
	}
	return store.SetProgress(ctx, partition, p)
}

// Save implements Marks.
func (l *Late) Save(ctx context.Context, posts []freshet.Post) error {
	store, err := l.opened()
	if err != nil {
		return err
	}
	return store.Save(ctx, posts)
}

// Unmark implements Marks.
func (l *Late) Unmark(ctx context.Context, ids []freshet.PostID) error {
	store, err := l.opened()
	if err != nil {
		return err
	}
	return store.Unmark(ctx, ids)
}

// Marked implements Marks.
func (l *Late) Marked(ctx context.Context, slot Slot) ([]freshet.PostID, error) {
	store, err := l.opened()
	if err != nil {
		return nil, err
	}
	return store.Marked(ctx, slot)
}

// Saved implements Marks.
func (l *Late) Saved(ctx context.Context, ids []freshet.PostID) (map[freshet.PostID]freshet.Post, error) {
	store, err := l.opened()
	if err != nil {
		return nil, err
	}
	return store.Saved(ctx, ids)
}

// Sweeps implements Marks.
func (l *Late) Sweeps(ctx context.Context) (Sweeps, error) {
	store, err := l.opened()
	if err != nil {
		return Sweeps{}, err
	}
	return store.Sweeps(ctx)
}

// NoteSweeps implements Marks.
func (l *Late) NoteSweeps(ctx context.Context, s Sweeps) error {
	store, err := l.opened()
	if err != nil {
		return err
	}
	return store.NoteSweeps(ctx, s)
}

// Close implements Store.
func (l *Late) Close() error {
	if store, err := l.opened(); err == nil {
		return store.Close()
	}
	return nil
}
