package sim

import (
	"cmp"
	"context"
	"slices"

	"freshet"
	"freshet/internal/posts"
)

// store is a posts.Store in memory. What it keeps survives everything.
type store struct {
	w         *world
	posts     map[freshet.PostID]*stored
	byAuthor  map[freshet.Number][]*stored
	followers map[[2]freshet.Number]posts.FollowerChange
	progress  map[int32]posts.Progress
}

// stored is a post; each column remembers the offset that wrote it.
type stored struct {
	post                           freshet.Post
	created, text, edited, deleted int64
}

func newStore(w *world) *store {
	return &store{
		w: w, posts: map[freshet.PostID]*stored{}, byAuthor: map[freshet.Number][]*stored{},
		followers: map[[2]freshet.Number]posts.FollowerChange{}, progress: map[int32]posts.Progress{},
	}
}

func (s *store) pass() {
	if s.w.current != nil {
		s.w.current.pass()
	}
}

// Apply implements posts.Store.
func (s *store) Apply(_ context.Context, events []posts.Event) error {
	for _, e := range events {
		s.pass()
		row := s.posts[e.Post.ID]
		if row == nil {
			row = &stored{created: -1, text: -1, edited: -1, deleted: -1}
			row.post.ID, row.post.Author = e.Post.ID, e.Post.Author
			s.posts[e.Post.ID] = row
			s.byAuthor[e.Post.Author] = append(s.byAuthor[e.Post.Author], row)
		}
		switch e.Kind {
		case freshet.PostCreated:
			if e.Offset > row.created {
				row.created = e.Offset
				row.post.ReplyTo, row.post.Visibility, row.post.CreatedAt = e.Post.ReplyTo, e.Post.Visibility, e.Post.CreatedAt
			}
			if e.Offset > row.text {
				row.text, row.post.Text = e.Offset, e.Post.Text
			}
		case freshet.PostEdited:
			if e.Offset > row.text {
				row.text, row.post.Text = e.Offset, e.Post.Text
			}
			if e.Offset > row.edited {
				row.edited, row.post.EditedAt = e.Offset, e.Post.EditedAt
			}
		case freshet.PostDeleted:
			if e.Offset > row.deleted {
				row.deleted, row.post.DeletedAt = e.Offset, e.Post.DeletedAt
			}
		}
	}
	return nil
}

// ApplyFollowers implements posts.Store.
func (s *store) ApplyFollowers(_ context.Context, changes []posts.FollowerChange) error {
	s.pass()
	for _, c := range changes {
		key := [2]freshet.Number{c.Followee, c.Follower}
		if old, ok := s.followers[key]; !ok || c.Version > old.Version {
			s.followers[key] = c
		}
	}
	return nil
}

// Posts implements posts.Store.
func (s *store) Posts(_ context.Context, ids []freshet.PostID) (map[freshet.PostID]freshet.Post, error) {
	found := map[freshet.PostID]freshet.Post{}
	for _, id := range ids {
		s.pass()
		if row := s.posts[id]; row != nil && (row.created >= 0 || row.deleted >= 0) {
			found[id] = row.post
		}
	}
	return found, nil
}

// ByAuthor implements posts.Store.
func (s *store) ByAuthor(
	_ context.Context, author freshet.Number, before freshet.PostID, limit int,
) ([]freshet.Post, error) {
	s.pass()
	if s.w.current != nil {
		s.w.current.below = before != 0
		if before != 0 {
			s.w.count("read: below the floor")
		}
	}
	var page []freshet.Post
	for _, row := range s.byAuthor[author] {
		if row.created >= 0 && row.deleted < 0 && (before == 0 || row.post.ID < before) {
			page = append(page, row.post)
		}
	}
	slices.SortFunc(page, func(a, b freshet.Post) int { return cmp.Compare(b.ID, a.ID) })
	return page[:min(len(page), limit)], nil
}

// IDsByAuthor implements posts.Store.
func (s *store) IDsByAuthor(ctx context.Context, author freshet.Number, limit int) ([]freshet.PostID, error) {
	page, err := s.ByAuthor(ctx, author, 0, limit)
	ids := make([]freshet.PostID, len(page))
	for i, post := range page {
		ids[i] = post.ID
	}
	return ids, err
}

// Followers implements posts.Store.
func (s *store) Followers(_ context.Context, followee, from freshet.Number, limit int) ([]freshet.Number, error) {
	var found []freshet.Number
	for key, row := range s.followers {
		if key[0] == followee && key[1] >= from && row.Follows {
			found = append(found, key[1])
		}
	}
	slices.Sort(found)
	return found[:min(len(found), limit)], nil
}

// Progress implements posts.Store.
func (s *store) Progress(context.Context) (map[int32]posts.Progress, error) {
	s.pass()
	all := map[int32]posts.Progress{}
	for partition, p := range s.progress {
		all[partition] = p
	}
	return all, nil
}

// SetProgress implements posts.Store.
func (s *store) SetProgress(_ context.Context, partition int32, p posts.Progress) error {
	s.pass()
	old := s.progress[partition]
	old.Offset = max(old.Offset, p.Offset)
	if p.Through.After(old.Through) {
		old.Through = p.Through
	}
	s.progress[partition] = old
	return nil
}

// Close implements posts.Store.
func (s *store) Close() error { return nil }
