package replay

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"freshet"
	"freshet/internal/events"
	"freshet/internal/kafka"
)

// Store is the post store, as far as a replay needs it.
type Store interface {
	ByAuthor(ctx context.Context, author freshet.Number, before freshet.PostID, limit int) ([]freshet.Post, error)
}

// pageOfPosts is how many posts of an author are read at once.
const pageOfPosts = 500

// authorParts are the partitions of a replay from the post store, and how many authors it has to ask for.
func (r *Replayer) authorParts(ctx context.Context, s Spec) ([]Part, int, error) {
	ends, err := r.listed(r.adm.ListEndOffsets(ctx, r.posts))
	if err != nil {
		return nil, 0, err
	}
	authors, err := r.authors(ctx, s, int32(len(ends)))
	if err != nil {
		return nil, 0, err
	}
	if len(authors) == 0 {
		return nil, 0, fmt.Errorf("%w: nobody has posted there", ErrRange)
	}
	parts := make([]Part, len(ends))
	for i := range parts {
		parts[i].Partition = int32(i)
	}
	return parts, len(authors), nil
}

// authors are those that a replay from the post store asks for, ascending: whoever stats says has posted.
func (r *Replayer) authors(ctx context.Context, s Spec, partitions int32) ([]freshet.Number, error) {
	wanted := func(author freshet.Number) bool {
		return len(s.Partitions) == 0 || slices.Contains(s.Partitions, freshet.PartitionOf(author.Key(), partitions))
	}
	if s.Author != nil {
		if !wanted(*s.Author) {
			return nil, nil
		}
		return []freshet.Number{*s.Author}, nil
	}
	stats := r.cfg.Names.Topic(freshet.Stats)
	ends, err := r.lookup.Ends(ctx, stats)
	if err != nil {
		return nil, err
	}
	at := map[int32]kgo.Offset{}
	left := map[int32]int64{}
	for p, end := range ends {
		if end > 0 {
			at[p.Partition], left[p.Partition] = kgo.NewOffset().AtStart(), end
		}
	}
	if len(left) == 0 {
		return nil, nil
	}
	client, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(r.cfg.Brokers...), kgo.ClientID("freshet-replay"),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{stats: at}),
	}, r.cfg.Clients...)...)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", stats, err)
	}
	defer client.Close()
	found := map[freshet.Number]bool{}
	for len(left) > 0 {
		fetches := client.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("read %s: %w", stats, err)
		}
		if err := fetches.Err(); err != nil {
			return nil, fmt.Errorf("read %s: %w", stats, err)
		}
		fetches.EachRecord(func(rec *kgo.Record) {
			if author, err := freshet.ParseNumber(string(rec.Key)); err == nil && wanted(author) {
				var counts events.Stats
				if proto.Unmarshal(rec.Value, &counts) == nil && counts.GetPosts() > 0 {
					found[author] = true
				}
			}
			if rec.Offset+1 >= left[rec.Partition] {
				delete(left, rec.Partition)
			}
		})
	}
	authors := make([]freshet.Number, 0, len(found))
	for author := range found {
		authors = append(authors, author)
	}
	slices.Sort(authors)
	return authors, nil
}

// copyStore copies what the post store has of the range, author after author. The store has no edits and deletes but
// posts as they are now, and says of each that it has it, so that is how they are delivered: at an offset below all.
func (u *run) copyStore(ctx context.Context) error {
	if u.o.Store == nil {
		return fmt.Errorf("replay %s reads from the post store, and none was given", u.state.ID)
	}
	partitions := int32(len(u.state.Parts))
	authors, err := u.authors(ctx, u.state.Spec, partitions)
	if err != nil {
		return err
	}
	u.state.Authors = len(authors)
	for u.state.NextAuthor < len(authors) {
		author := authors[u.state.NextAuthor]
		if err := u.copyAuthor(ctx, author, freshet.PartitionOf(author.Key(), partitions)); err != nil {
			return err
		}
		u.state.NextAuthor++
	}
	return nil
}

func (u *run) copyAuthor(ctx context.Context, author freshet.Number, partition int32) error {
	from, before := u.state.Spec.posts()
	for {
		if err := u.pace(ctx); err != nil {
			return err
		}
		page, err := u.o.Store.ByAuthor(ctx, author, before, pageOfPosts)
		if err != nil {
			return fmt.Errorf("read the posts of account %d from the post store: %w", author, err)
		}
		var copies []*kgo.Record
		for _, post := range page {
			before = post.ID
			if post.ID < from {
				break
			}
			copied, err := u.stored(post, partition)
			if err != nil {
				return err
			}
			copies = append(copies, copied)
		}
		slices.Reverse(copies) // oldest first, as they were posted
		if err := u.produce(ctx, copies); err != nil {
			return err
		}
		if len(copies) < pageOfPosts {
			return nil
		}
	}
}

func (u *run) stored(post freshet.Post, partition int32) (*kgo.Record, error) {
	post.EditedAt = time.Time{}
	value, err := kafka.Codec[events.PostEvent, *events.PostEvent]{}.Encode(
		events.PostEventOf(freshet.PostEvent{Kind: freshet.PostCreated, Post: post}))
	if err != nil {
		return nil, fmt.Errorf("encode post %s: %w", post.ID, err)
	}
	return &kgo.Record{Topic: u.replays, Partition: partition, Key: []byte(post.Author.Key()), Value: value,
		Headers: u.headers(0)}, nil
}
