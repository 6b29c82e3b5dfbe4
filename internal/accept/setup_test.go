package accept

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"google.golang.org/protobuf/proto"

	"freshet"
	"freshet/emitters"
	"freshet/internal/events"
	"freshet/internal/feeds"
	"freshet/internal/feeds/feedstest"
	"freshet/internal/kafka"
	"freshet/internal/kafka/kafkatest"
	"freshet/internal/posts"
	"freshet/internal/posts/pebblestore"
	"freshet/processors/processortest"
)

func TestMain(m *testing.M) { kafkatest.Main(m) }

const partitions = 2

var layout = feeds.Layout{Zones: 1, FeedLength: 50}

// stage is a Kafka, a modelled Redis and a post store on the disk, each of which can be away.
type stage struct {
	*testing.T
	*processortest.Cluster
	store   *pebblestore.Store
	model   *feedstest.Model
	writers *emitters.Emitters
	minter  *freshet.Minter

	mu        sync.Mutex
	redisAway bool
	storeAway bool
	kafkaAway bool
	// beforeUnmark, unless nil, is called before a mark is taken off.
	beforeUnmark func()
}

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{T: t, Cluster: processortest.Start(t, partitions), model: feedstest.NewModel(layout, time.Now)}
	var err error
	if s.store, err = pebblestore.Open(t.TempDir(), pebblestore.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.store.Close(); err != nil {
			t.Error(err)
		}
	})
	if s.writers, err = emitters.New(s.Brokers, s.Names, s.Config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.writers.Close(); err != nil {
			t.Error(err)
		}
	})
	if s.minter, err = freshet.NewMinter(1, time.Now); err != nil {
		t.Fatal(err)
	}
	// Of what Kafka refuses so, sarama does not try again.
	s.Fake.ControlKey(int16(kmsg.Produce), func(request kmsg.Request) (kmsg.Response, error, bool) {
		s.Fake.KeepControl()
		if !s.is(&s.kafkaAway) {
			return nil, nil, false
		}
		asked := request.(*kmsg.ProduceRequest)
		answer := asked.ResponseKind().(*kmsg.ProduceResponse)
		for _, topic := range asked.Topics {
			one := kmsg.NewProduceResponseTopic()
			one.Topic, one.TopicID = topic.Topic, topic.TopicID
			for _, partition := range topic.Partitions {
				refused := kmsg.NewProduceResponseTopicPartition()
				refused.Partition, refused.ErrorCode = partition.Partition, kerr.TopicAuthorizationFailed.Code
				one.Partitions = append(one.Partitions, refused)
			}
			answer.Topics = append(answer.Topics, one)
		}
		return answer, nil, true
	})
	s.recover("", "1-a")
	return s
}

func (s *stage) recover(old, token string) {
	s.Helper()
	op := &feeds.Recover{Old: old, New: token}
	if err := s.model.Do(s.Context(), op); err != nil || !op.OK {
		s.Fatal(err, op)
	}
}

func (s *stage) is(what *bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return *what
}

func (s *stage) set(what *bool, to bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*what = to
}

// Do implements feeds.Conn.
func (s *stage) Do(ctx context.Context, ops ...feeds.Op) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.redisAway {
		return feeds.ErrAway
	}
	return s.model.Do(ctx, ops...)
}

// marks is the store's, which may be away.
type marks struct {
	*pebblestore.Store
	s *stage
}

func (m marks) away() error {
	if m.s.is(&m.s.storeAway) {
		return freshet.ErrStoreAway
	}
	return nil
}

func (m marks) Save(ctx context.Context, all []freshet.Post) error {
	if err := m.away(); err != nil {
		return err
	}
	return m.Store.Save(ctx, all)
}

func (m marks) Unmark(ctx context.Context, ids []freshet.PostID) error {
	if err := m.away(); err != nil {
		return err
	}
	if m.s.beforeUnmark != nil && len(ids) > 0 {
		m.s.beforeUnmark()
	}
	return m.Store.Unmark(ctx, ids)
}

func (m marks) Sweeps(ctx context.Context) (posts.Sweeps, error) {
	if err := m.away(); err != nil {
		return posts.Sweeps{}, err
	}
	return m.Store.Sweeps(ctx)
}

// desk is one of a process, which has yet to look at its slots. Its clock is ahead by as much.
func (s *stage) desk(ahead time.Duration) *Desk {
	return &Desk{
		Publisher: &emitters.Publisher{
			Emitters: s.writers, Conn: s, Layout: layout, Store: s.store, Log: s.Logger(),
			Partitions: partitions, Slowest: Longest,
		},
		Marks: marks{s.store, s}, SaveFirst: true, Log: s.Logger(),
		Now:    func() time.Time { return time.Now().Add(ahead) },
		settle: func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
	}
}

// open is a desk that posts can be given to.
func (s *stage) open() *Desk {
	s.Helper()
	d := s.desk(0)
	if err := d.slots.open(s.Context(), d.Marks, d.Now()); err != nil {
		s.Fatal(err)
	}
	return d
}

// later is a desk of a time when all that was saved by now is old enough to be swept.
func (s *stage) later() *Desk { return s.desk(SweepAge + 2*posts.SlotLength) }

func (s *stage) sweep(d *Desk) {
	s.Helper()
	if err := d.sweep(s.Context()); err != nil {
		s.Fatal(err)
	}
}

func (s *stage) post(text string) freshet.Post {
	s.Helper()
	id, err := s.minter.Mint(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	return freshet.Post{
		ID: id, Author: 7, Text: text, ReplyTo: 3, Visibility: freshet.FollowersOnly, CreatedAt: id.Time().UTC(),
	}
}

// log is what the log has, in the order of the only partition that the author of all posts writes to.
func (s *stage) log() (all []posts.Event) {
	s.Helper()
	lookup, err := kafka.NewLookup(s.Brokers)
	if err != nil {
		s.Fatal(err)
	}
	defer lookup.Close()
	ends, err := lookup.Ends(s.Context(), s.Names.Topic(freshet.Posts))
	if err != nil {
		s.Fatal(err)
	}
	count := 0
	for _, end := range ends {
		count += int(end)
	}
	for _, r := range s.Read(s.Names.Topic(freshet.Posts), count) {
		var m events.PostEvent
		if err := proto.Unmarshal(r.Value, &m); err != nil {
			s.Fatal(err)
		}
		event, err := m.Event()
		if err != nil {
			s.Fatal(err)
		}
		all = append(all, posts.Event{PostEvent: event, Offset: event.Rank(r.Offset)})
	}
	return all
}

// archive stores what the log has.
func (s *stage) archive() {
	s.Helper()
	if err := s.store.Apply(s.Context(), s.log()); err != nil {
		s.Fatal(err)
	}
}

// stored is the author's posts, by their texts, newest first.
func (s *stage) stored() (texts []string) {
	s.Helper()
	page, err := s.store.ByAuthor(s.Context(), 7, 0, 1000)
	if err != nil {
		s.Fatal(err)
	}
	for _, p := range page {
		texts = append(texts, p.Text)
	}
	return texts
}

// marked is how many posts have a mark.
func (s *stage) marked() (n int) {
	s.Helper()
	sweeps, err := s.store.Sweeps(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	for slot := sweeps.First - 10; slot <= sweeps.Opened+1; slot++ {
		ids, err := s.store.Marked(s.Context(), slot)
		if err != nil {
			s.Fatal(err)
		}
		n += len(ids)
	}
	return n
}

func anybody(freshet.Post) error { return nil }

var errNobody = errors.New("nobody may")

func nobody(freshet.Post) error { return errNobody }
