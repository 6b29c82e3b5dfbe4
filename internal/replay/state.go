package replay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"freshet/internal/offsets"
)

// Status is what becomes of a replay.
type Status string

// The statuses. Running and Paused are those of a replay that is not over.
const (
	Running   Status = "running"
	Paused    Status = "paused"
	Done      Status = "done"
	Cancelled Status = "cancelled"
)

// State is a replay and how far it is.
type State struct {
	ID     string `json:"id"`
	Group  string `json:"group"`
	Spec   Spec   `json:"spec"`
	Status Status `json:"status"`
	// Owner is the process that copies, or was the last to: host and process id.
	Owner string `json:"owner"`
	// Parts are the ranges in posts; of a replay from the post store, the partitions alone.
	Parts []Part `json:"partitions"`
	// Authors and NextAuthor are for a replay from the post store: how many there are, and how many are done.
	Authors    int `json:"authors,omitempty"`
	NextAuthor int `json:"next_author,omitempty"`
	// Copied is how many records were put into replays.
	Copied int64 `json:"copied"`
	// Rate is the bound on records a second, 0 for none.
	Rate    float64   `json:"rate,omitempty"`
	Started time.Time `json:"started"`
	Updated time.Time `json:"updated"`
	// After is the offset of the record of the topic that this one follows, -1 for the first. It makes a write a
	// comparison, too: of two that follow the same record only the first counts.
	After int64 `json:"after"`
}

// Part is a partition's range: what is from From on and below To, of which what is below Next is in replays.
type Part struct {
	Partition int32 `json:"partition"`
	From      int64 `json:"from"`
	To        int64 `json:"to"`
	Next      int64 `json:"next"`
	// Missing is how many records of the range retention has removed, at most where the range is one of times.
	Missing int64 `json:"missing,omitempty"`
	// Until is the offset in replays behind the last copy: when the group has come there, it has processed them.
	Until int64 `json:"until"`
}

// Over says whether a replay has ended.
func (s State) Over() bool { return s.Status == Done || s.Status == Cancelled }

// Progress is how much of the range was gone through, in records, or in authors for a replay from the post store.
func (s State) Progress() (done, total int64) {
	if s.Spec.Store {
		return int64(s.NextAuthor), int64(s.Authors)
	}
	for _, p := range s.Parts {
		done, total = done+p.Next-p.From, total+p.To-p.From
	}
	return done, total
}

func (s State) String() string {
	done, total := s.Progress()
	return fmt.Sprintf("replay %s of group %s, from %s to %s, %s by %s, %d of %d", s.ID, s.Group, s.Spec.From, s.Spec.To,
		s.Status, s.Owner, done, total)
}

// states is the compacted topic of one partition in which the replays' states lie, under their groups. What counts is
// decided by the order of the records alone: one that does not follow the last that counts does not count. So no clock
// and no lock is needed for one replay of a group at a time, and for one process that copies. It is for one goroutine.
type states struct {
	client *kgo.Client // reads the topic, and writes all
	adm    *kadm.Client
	topic  string
	next   int64 // offset of the first record that was not read
	last   map[string]entry
}

type entry struct {
	State
	offset int64
	seen   time.Time // when it was read here
}

func newStates(client *kgo.Client, topic string) *states {
	return &states{client: client, adm: kadm.NewClient(client), topic: topic, last: map[string]entry{}}
}

// refresh reads what has been written since.
func (s *states) refresh(ctx context.Context) error {
	ends, err := s.adm.ListEndOffsets(ctx, s.topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return fmt.Errorf("look up the end of %s: %w; a start of freshet makes the topic", s.topic, err)
	}
	end, ok := ends.Lookup(s.topic, 0)
	if !ok {
		return fmt.Errorf("topic %s: %w: a start of freshet makes it; is the prefix right?", s.topic, offsets.ErrUnknown)
	}
	for s.next < end.Offset {
		fetches := s.client.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("read %s: %w", s.topic, err)
		}
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("read %s: %w", s.topic, err)
		}
		fetches.EachRecord(s.read)
	}
	return nil
}

func (s *states) read(r *kgo.Record) {
	s.next = r.Offset + 1
	var state State
	if json.Unmarshal(r.Value, &state) != nil { // of another version: it counts for nothing here
		return
	}
	group := string(r.Key)
	if last, ok := s.last[group]; ok && state.After != last.offset {
		return
	}
	s.last[group] = entry{state, r.Offset, time.Now()}
}

// errConflict says that somebody else has written before.
var errConflict = errors.New("somebody else has changed the replay")

// put writes a state that follows the one that was read last. The error wraps errConflict if another one came first;
// the states are fresh then.
func (s *states) put(ctx context.Context, state State) error {
	state.After = -1
	if last, ok := s.last[state.Group]; ok {
		state.After = last.offset
	}
	state.Updated = time.Now().UTC()
	offset, err := s.write(ctx, state)
	if err == nil {
		err = s.refresh(ctx)
	}
	if err != nil {
		return err
	}
	last := s.last[state.Group]
	if last.offset == offset {
		return nil
	}
	// Compaction would keep what does not count, and remove what does: so that is written again, behind it.
	again := last.State
	again.After = last.offset
	if _, err := s.write(ctx, again); err != nil {
		return err
	}
	return errors.Join(errConflict, s.refresh(ctx))
}

func (s *states) write(ctx context.Context, state State) (offset int64, err error) {
	value, err := json.Marshal(state)
	if err != nil {
		return 0, fmt.Errorf("encode the state of a replay: %w", err)
	}
	r := &kgo.Record{Topic: s.topic, Key: []byte(state.Group), Value: value}
	if err := s.client.ProduceSync(ctx, r).FirstErr(); err != nil {
		return 0, fmt.Errorf("write the state of the replay into %s: %w", s.topic, err)
	}
	return r.Offset, nil
}
