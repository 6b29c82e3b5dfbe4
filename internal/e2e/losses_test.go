package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/redis/go-redis/v9"

	"freshet/internal/admin"
)

// TestDeletesOutliveRedis: a post is deleted, and before the post store knows, because its group is moving, Redis loses
// that it was. Nobody may see the post again, not for a moment.
func TestDeletesOutliveRedis(t *testing.T) {
	t.Parallel()
	r := newRun(t)
	r.proc = start(t, denseFlags...)
	inParallel(make([]int, 2), r.registerer())
	c := r.newClients(1)[0]
	const posts = 5
	for range posts {
		if err := c.post(); err != nil {
			t.Fatal(err)
		}
	}
	r.quiet() // the post store has them
	for _, p := range c.posts {
		r.ledger.deleting(p)
		moved := r.moveArchive()
		what := fmt.Sprintf("FLUSHALL after the delete of %d", p.ID)
		r.loseZones(what, zones, func(ctx context.Context, client *redis.Client) error {
			if err := c.end(p); err != nil {
				return err
			}
			if err := client.FlushAll(ctx).Err(); err != nil {
				return err
			}
			r.ledger.deleted(p)
			for range 20 { // while it is noticed, and repaired
				if err := r.gone(p); err != nil {
					return err
				}
			}
			return nil
		})
		if err := <-moved; err != nil {
			t.Error(err)
		}
		r.quiet()
	}
	r.compare("after all deletes")
}

// moveArchive lets the group that fills the post store begin again, which stops it for a moment. The channel tells when
// it goes on.
func (r *run) moveArchive() <-chan error {
	const group = "freshet.archive"
	var seek admin.Seek
	for partition := range int32(8) {
		seek.Positions = append(seek.Positions, admin.Position{Topic: postsTopic, Partition: partition})
	}
	moved := make(chan error, 1)
	go func() {
		a, err := request(r.http, http.MethodPost, r.proc.admin+admin.SeekPath(group), seek)
		if err == nil && a.status != http.StatusNoContent {
			err = fmt.Errorf("%w: %s", errNotMoved, a)
		}
		moved <- err
	}()
	return moved
}

var errNotMoved = errors.New("the archive was not moved")

// gone reads the post and its author's newest page.
func (r *run) gone(p *Post) error {
	path := fmt.Sprintf("/v1/posts/%d", p.ID)
	a, err := request(r.http, http.MethodGet, r.proc.url()+path, nil)
	if err != nil {
		return err
	}
	if a.status != http.StatusNotFound && a.status != http.StatusServiceUnavailable {
		r.t.Errorf("GET %s, which is deleted: %s", path, a)
	}
	r.readSome(&readers{}, p.Author, 100, 1)
	return nil
}
