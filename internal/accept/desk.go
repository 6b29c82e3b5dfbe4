// Package accept takes posts in: published at once, or, with --accept store, saved in the post store first.
//
//	desk.go    taking posts in, and what may be done with one that is saved and not published
//	save.go    saving the posts of many requests together
//	slots.go   which saved posts a sweep is sure to find
//	unmark.go  taking marks off, many at a time
//	sweep.go   publishing what was left saved
//
// A post that is saved is marked, published, and unmarked. Until it is in the log nobody is shown it: not in a feed,
// not on a profile and not by its id, because the log is where everything that is shown comes from, deletes included.
//
// What was saved and not published, since a process was killed in between or Kafka was away, is published by a sweep,
// which every API process makes. A sweep cannot know whether a post is in the log already, so one may be there twice.
// That is harmless: its id is the same, and a creation that was saved first ranks below all else that the log says of
// the post (freshet.PostEvent), so a late one undoes neither an edit nor a delete. Only the author's count of posts may
// be one too high afterwards.
package accept

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"freshet"
	"freshet/emitters"
	"freshet/internal/crash"
	"freshet/internal/feeds"
	"freshet/internal/posts"
)

// hideTimeout bounds what the answer to a delete waits for Redis.
const hideTimeout = 5 * time.Second

// Desk is where an API process takes posts in. It is safe for concurrent use; Run has to run beside it.
type Desk struct {
	*emitters.Publisher
	// Marks are of the post store that the publisher has.
	Marks posts.Marks
	// SaveFirst says that posts are saved before they are published.
	SaveFirst bool
	Log       *slog.Logger
	// Now is the clock by which ids are minted.
	Now func() time.Time

	settle   func(ctx context.Context, d time.Duration) error // pause.For, outside tests
	saver    saver
	slots    slots
	unmarker unmarker

	saved, unknown, swept, waiting atomic.Int64
	sweptTo                        atomic.Int64 // up to when all ids were looked at, in nanoseconds since 1970; 0: never
}

// Counts is what has become of saved posts.
type Counts struct {
	// Saved posts of this process, and those of them of which nobody knew, when they were answered, whether they are in
	// the log.
	Saved, Unknown int64
	// Swept is how many posts the sweeps of this process have published.
	Swept int64
	// Waiting is how many posts the last sweep found that could not be published, up to the first that could not.
	Waiting int64
	// Behind is how old the oldest post may be that the sweeps of this process have not looked at, less SweepAge. It is a
	// minute at most while they get on.
	Behind time.Duration
}

// Counts are those of now.
func (d *Desk) Counts() Counts {
	c := Counts{
		Saved: d.saved.Load(), Unknown: d.unknown.Load(), Swept: d.swept.Load(), Waiting: d.waiting.Load(),
	}
	if to := d.sweptTo.Load(); to != 0 {
		c.Behind = max(0, d.Now().Sub(time.Unix(0, to))-SweepAge)
	}
	return c
}

// Publish takes a post in; see PublishAll.
func (d *Desk) Publish(ctx context.Context, post freshet.Post) (emitters.Position, error) {
	if !d.SaveFirst {
		return d.Publisher.Publish(ctx, post)
	}
	o := d.PublishAll(ctx, []freshet.Post{post})[0]
	return o.Position, o.Err
}

// PublishAll takes posts in. Without an error a post is in the log, as emitters.Publisher says. Where posts are saved
// first, one whose error wraps emitters.ErrSaved is in the post store and will be published, whatever happens to this
// process; one that could not be saved is not published; and of any other error it is not known what the post is.
func (d *Desk) PublishAll(ctx context.Context, all []freshet.Post) []emitters.Outcome {
	if !d.SaveFirst || len(all) == 0 {
		return d.Publisher.PublishAll(ctx, all)
	}
	outcomes := make([]emitters.Outcome, 0, len(all))
	for some := range slices.Chunk(all, saveMost) {
		outcomes = append(outcomes, d.saveAndPublish(ctx, some)...)
	}
	return outcomes
}

func (d *Desk) saveAndPublish(ctx context.Context, all []freshet.Post) []emitters.Outcome {
	if err := d.saver.save(ctx, d.Marks, all); err != nil {
		outcomes := make([]emitters.Outcome, len(all))
		for i := range outcomes {
			outcomes[i].Err = fmt.Errorf("save before publishing: %w", err)
		}
		return outcomes
	}
	d.saved.Add(int64(len(all)))
	covered := d.slots.covered(all)
	crash.At(crash.Saved)
	// From here on the posts come into the log, with the client or without it.
	outcomes := d.Publisher.PublishSaved(context.WithoutCancel(ctx), all)
	for i := range outcomes {
		switch o := &outcomes[i]; {
		case o.Err == nil, !errors.Is(o.Err, emitters.ErrUnavailable): // it is in the log, or never will be
			d.unmarker.add(all[i].ID)
		case covered[i]:
			d.unknown.Add(1)
			o.Err = fmt.Errorf("%w: %w", emitters.ErrSaved, o.Err)
		}
	}
	return outcomes
}

// Edit is the publisher's. A post that is saved and not published yet cannot be edited: an edit in the log before its
// post would be of a post that nobody knows. The error then wraps emitters.ErrUnavailable.
func (d *Desk) Edit(
	ctx context.Context, id freshet.PostID, text string, may emitters.May,
) (freshet.Post, emitters.Position, bool, error) {
	post, at, found, err := d.Publisher.Edit(ctx, id, text, may)
	if found || err != nil && !errors.Is(err, freshet.ErrUnsettled) {
		return post, at, found, err
	}
	unsettled := err
	post, found, err = d.unpublished(ctx, id)
	if err != nil || !found {
		return freshet.Post{}, emitters.Position{}, false, cmp.Or(err, unsettled)
	}
	if err := may(post); err != nil {
		return freshet.Post{}, emitters.Position{}, true, err
	}
	return freshet.Post{}, emitters.Position{}, true,
		fmt.Errorf("edit post %s: it is saved and not published yet: %w", id, emitters.ErrUnavailable)
}

// Delete is the publisher's. The delete of a post that is saved and not published yet goes into the log as any other:
// then nobody is ever shown the post, also if its creation is there already, or comes later. The mark goes with it.
func (d *Desk) Delete(ctx context.Context, id freshet.PostID, may emitters.May) (emitters.Position, bool, error) {
	at, found, err := d.Publisher.Delete(ctx, id, may)
	if found || err != nil && !errors.Is(err, freshet.ErrUnsettled) {
		return at, found, err
	}
	unsettled := err
	post, found, err := d.unpublished(ctx, id)
	if err != nil || !found {
		return emitters.Position{}, false, cmp.Or(err, unsettled)
	}
	if err := may(post); err != nil {
		return emitters.Position{}, true, err
	}
	at, err = d.Emitters.Post(ctx, freshet.PostEvent{
		Kind: freshet.PostDeleted, Post: freshet.Post{ID: id, Author: post.Author, DeletedAt: time.Now()},
	})
	if err != nil {
		return emitters.Position{}, true, err
	}
	d.unmarker.add(id)
	hiding, cancel := context.WithTimeout(ctx, hideTimeout)
	defer cancel()
	if err := d.Conn.Do(hiding, &feeds.PutTombstone{Post: id}); err != nil {
		return emitters.Position{}, true,
			fmt.Errorf("hide post %s, whose delete is in the log: %w: %w", id, emitters.ErrUnavailable, err)
	}
	return at, true, nil
}

// unpublished finds a post that is saved and not known to be published. Any process may have saved it, and this one may
// not do so any more.
func (d *Desk) unpublished(ctx context.Context, id freshet.PostID) (freshet.Post, bool, error) {
	saved, err := d.Marks.Saved(ctx, []freshet.PostID{id})
	if err != nil {
		return freshet.Post{}, false, fmt.Errorf("look for post %s among those that are not published: %w", id, err)
	}
	post, found := saved[id]
	return post, found, nil
}
