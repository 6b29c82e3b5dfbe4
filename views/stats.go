package views

import (
	"fmt"

	"freshet"
	"freshet/internal/events"
	"freshet/internal/kafka"
)

// Counts are how many followers and posts an account has, as of the last second or so.
type Counts struct {
	Followers, Posts uint64
}

// Stats looks counts up. It is safe for concurrent use.
type Stats struct{ *table }

// NewStats opens the view; the caller runs it.
func NewStats(brokers []string, names freshet.Names, settings kafka.ViewSettings) (*Stats, error) {
	t, err := openTable(brokers, names.Topic(freshet.Stats), kafka.Codec[events.Stats, *events.Stats]{}, nil, settings)
	if err != nil {
		return nil, err
	}
	return &Stats{t}, nil
}

// Counts of an account. Both are 0 for one that has had neither a follower nor a post.
func (s *Stats) Counts(n freshet.Number) (Counts, error) {
	switch row, err := s.row(n.Key()); row := row.(type) {
	case nil:
		return Counts{}, err
	case *events.Stats:
		return Counts{Followers: row.GetFollowers(), Posts: row.GetPosts()}, nil
	default:
		return Counts{}, fmt.Errorf("look %q up in %s: the codec made a %T", n.Key(), s.view.Topic(), row)
	}
}
