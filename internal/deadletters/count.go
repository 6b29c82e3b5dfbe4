package deadletters

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"
)

// Count is how many letters a group has with a reason, and when it gave up the first and the last of them.
type Count struct {
	Group   string    `json:"group"`
	Topic   string    `json:"topic"`
	Reason  string    `json:"reason"`
	Letters int       `json:"letters"`
	First   time.Time `json:"first"`
	Last    time.Time `json:"last"`
}

// mostReasons bounds what Count keeps: reasons can have something of each message in them.
const mostReasons = 1000

// OtherReasons stands for the reasons of a group and a topic beyond the first thousand altogether.
const OtherReasons = "(others)"

// Count counts the open letters that are meant, by group, topic and reason, the most first.
func (b *Box) Count(ctx context.Context, filter Filter) ([]Count, error) {
	type kind struct{ group, topic, reason string }
	found := map[kind]*Count{}
	err := b.Each(ctx, filter, func(l *Letter) error {
		k := kind{l.Group, l.Topic, l.Why()}
		if found[k] == nil && len(found) >= mostReasons {
			k.reason = OtherReasons
		}
		c := found[k]
		if c == nil {
			c = &Count{Group: k.group, Topic: k.topic, Reason: k.reason, First: l.GivenUp, Last: l.GivenUp}
			found[k] = c
		}
		c.Letters++
		if l.GivenUp.Before(c.First) {
			c.First = l.GivenUp
		}
		if l.GivenUp.After(c.Last) {
			c.Last = l.GivenUp
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	counts := make([]Count, 0, len(found))
	for _, c := range found {
		counts = append(counts, *c)
	}
	slices.SortFunc(counts, func(x, y Count) int {
		return cmp.Or(cmp.Compare(y.Letters, x.Letters), strings.Compare(x.Group, y.Group),
			strings.Compare(x.Topic, y.Topic), strings.Compare(x.Reason, y.Reason))
	})
	return counts, nil
}
