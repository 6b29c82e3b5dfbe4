package audit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"freshet"
	"freshet/internal/events"
	"freshet/internal/kafka"
	"freshet/internal/posts"
	"freshet/internal/posts/pebblestore"
)

func (s *Sources) openLeft(ctx, running context.Context) error {
	dir := filepath.Join(s.cfg.Dir, "left")
	if err := os.RemoveAll(dir); err != nil { // of a process that was killed
		return fmt.Errorf("make a database for who has left whom: %w", err)
	}
	db, err := pebble.Open(dir, &pebble.Options{
		FormatMajorVersion: pebble.FormatColumnarBlocks, DisableWAL: true, Logger: quiet{},
	})
	if err != nil {
		return fmt.Errorf("make a database for who has left whom: %w", err)
	}
	s.onClose(db.Close)
	s.left = &left{db: db}
	s.left.tail, err = s.openTail(ctx, running, freshet.Follows, s.left.take)
	return err
}

// openTail follows a topic from its beginning.
func (s *Sources) openTail(
	ctx, running context.Context, topic freshet.Topic, take func([]kafka.Fetched) error,
) (*tail, error) {
	name := s.cfg.Names.Topic(topic)
	starts, err := s.lookup.Starts(ctx, name)
	if err != nil {
		return nil, err
	}
	t, err := openTail(s.cfg.Brokers, name, starts, s.options)
	if err != nil {
		return nil, err
	}
	s.running.Go(func() error { return t.run(running, take) })
	ends, err := s.ends(ctx, name)
	if err != nil {
		return nil, err
	}
	stage := "reading " + name
	watched, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			done, total := t.taken(starts, ends)
			s.cfg.Progress(stage, done, total)
			select {
			case <-tick.C:
			case <-watched.Done():
				return
			}
		}
	}()
	err = t.await(ctx, ends)
	return t, err
}

// ErrNoStore is returned where the post store is needed and cannot be made of the log.
var ErrNoStore = errors.New("the log of posts does not go back to its beginning, so it takes the post store; name it " +
	"with --cassandra")

// openStore makes a post store of the log.
func (s *Sources) openStore(ctx, running context.Context) error {
	starts, err := s.lookup.Starts(ctx, s.cfg.Names.Topic(freshet.Posts))
	if err != nil {
		return err
	}
	for _, start := range starts {
		if start > 0 {
			return ErrNoStore
		}
	}
	store, err := pebblestore.Open(filepath.Join(s.cfg.Dir, "posts"), pebblestore.Options{Log: s.cfg.Logger})
	if err != nil {
		return err
	}
	s.onClose(store.Close)
	s.store = store
	s.logged, err = s.openTail(ctx, running, freshet.Posts, func(records []kafka.Fetched) error {
		return store.Apply(running, Events(records))
	})
	return err
}

// Events are the events of records of posts. Records that cannot be read say nothing: they are dead letters.
func Events(records []kafka.Fetched) []posts.Event {
	all := make([]posts.Event, 0, len(records))
	for _, r := range records {
		value, err := postCodec.Decode(r.Value)
		message, ok := value.(*events.PostEvent)
		if err != nil || !ok {
			continue
		}
		event, err := message.Event()
		if err != nil || event.Post.Author.Key() != string(r.Key) {
			continue
		}
		all = append(all, posts.Event{PostEvent: event, Offset: r.Offset})
	}
	return all
}

var postCodec kafka.Codec[events.PostEvent, *events.PostEvent]

// quiet drops what Pebble notes of a database that goes with the audit.
type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(format string, args ...any) {
	panic("audit: " + fmt.Sprintf(format, args...))
}
