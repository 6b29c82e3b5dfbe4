package replay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"freshet"
	"freshet/internal/events"
	"freshet/internal/kafka"
	"freshet/internal/pause"
	"freshet/processors/fanout"
)

const (
	// most is how many records are copied at once.
	most = 4096
	// lookEvery is how often it is looked up how far the group is.
	lookEvery = 200 * time.Millisecond
	// endTimeout bounds noting how far a replay came whose context has ended.
	endTimeout = 5 * time.Second
)

// run is a replay that this process carries out.
type run struct {
	*Replayer
	state  State
	o      Options
	began  time.Time
	at     int64 // progress when it began
	beat   time.Time
	looked time.Time
	behind int64
	tokens time.Time // until when the rate has been used up
}

// Run carries out a replay that Start or Resume has given to this process: it copies, and returns when the group has
// processed all of it. When ctx ends the replay is paused, and can be resumed from any machine. The error wraps
// ErrStopped when an operator elsewhere has stopped or taken it over.
func (r *Replayer) Run(ctx context.Context, s State, o Options) (State, error) {
	if o.Ahead == 0 {
		o.Ahead = DefaultAhead
	}
	o.Rate = s.Rate
	u := &run{Replayer: r, state: s, o: o, began: time.Now(), beat: time.Now()}
	u.at, _ = s.Progress()
	err := u.copy(ctx)
	if err == nil {
		err = u.awaitGroup(ctx)
	}
	if errors.Is(err, ErrStopped) {
		return u.state, err
	}
	u.state.Status = Done
	if err != nil {
		u.state.Status = Paused
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	return u.state, errors.Join(err, u.note(ending))
}

func (u *run) copy(ctx context.Context) error {
	if u.state.Spec.Store {
		return u.copyStore(ctx)
	}
	from := map[int32]int64{}
	for _, p := range u.state.Parts {
		if p.Next < p.To {
			from[p.Partition] = p.Next
		}
	}
	if len(from) == 0 {
		return nil
	}
	at := map[int32]kgo.Offset{}
	for partition, offset := range from {
		at[partition] = kgo.NewOffset().At(offset)
	}
	reader, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(u.cfg.Brokers...), kgo.ClientID("freshet-replay"),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{u.posts: at}),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100 * time.Millisecond),
		kgo.FetchMaxPartitionBytes(1 << 20), kgo.FetchMaxBytes(8 << 20),
	}, u.cfg.Clients...)...)
	if err != nil {
		return fmt.Errorf("read %s: %w", u.posts, err)
	}
	defer reader.Close()
	for !u.copied() {
		if err := u.pace(ctx); err != nil {
			return err
		}
		batch, cancel := context.WithTimeout(ctx, lookEvery)
		fetches := reader.PollRecords(batch, u.atOnce())
		cancel()
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := u.batch(ctx, reader, fetches); err != nil {
			return err
		}
	}
	return nil
}

func (u *run) copied() bool {
	return !slices.ContainsFunc(u.state.Parts, func(p Part) bool { return p.Next < p.To })
}

// atOnce is how many records are looked at before the rate is looked at again: a tenth of a second's.
func (u *run) atOnce() int {
	if u.o.Rate <= 0 {
		return most
	}
	return int(min(max(u.o.Rate/10, 1), most))
}

// batch copies what was read, and waits until Kafka has it.
func (u *run) batch(ctx context.Context, reader *kgo.Client, fetches kgo.Fetches) error {
	var copies []*kgo.Record
	var errs []error
	fetches.EachError(func(_ string, partition int32, err error) {
		if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
			errs = append(errs, fmt.Errorf("read partition %d of %s: %w", partition, u.posts, err))
		}
	})
	next := map[int32]int64{}
	fetches.EachRecord(func(r *kgo.Record) {
		p := u.part(r.Partition)
		next[r.Partition] = min(r.Offset+1, p.To)
		switch {
		case r.Offset >= p.To:
			reader.PauseFetchPartitions(map[string][]int32{u.posts: {r.Partition}})
		case u.wanted(r):
			copies = append(copies, u.copyOf(r))
		}
	})
	if err := u.produce(ctx, copies); err != nil {
		return err
	}
	for partition, offset := range next {
		p := u.part(partition)
		p.Next = max(p.Next, offset)
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	if len(next) == 0 {
		return u.skipRemoved(ctx)
	}
	return nil
}

func (u *run) part(partition int32) *Part {
	i := slices.IndexFunc(u.state.Parts, func(p Part) bool { return p.Partition == partition })
	return &u.state.Parts[i]
}

// skipRemoved goes past what retention has removed while the replay was on its way.
func (u *run) skipRemoved(ctx context.Context) error {
	starts, err := u.listed(u.adm.ListStartOffsets(ctx, u.posts))
	if err != nil {
		return err
	}
	for i := range u.state.Parts {
		p := &u.state.Parts[i]
		if start := min(starts[p.Partition].Offset, p.To); start > p.Next {
			u.cfg.Logger.Warn("retention has removed records before they were replayed", "partition", p.Partition,
				"records", start-p.Next)
			p.Missing, p.Next = p.Missing+start-p.Next, start
		}
	}
	return nil
}

// wanted says whether a record is by the author, and of a post in the range.
func (u *run) wanted(r *kgo.Record) bool {
	spec := u.state.Spec
	if spec.Author != nil && string(r.Key) != spec.Author.Key() {
		return false
	}
	if !spec.judgesPosts() {
		return true
	}
	var event events.PostEvent
	if proto.Unmarshal(r.Value, &event) != nil {
		return false // it has no id
	}
	from, below := freshet.PostID(0), freshet.PostID(1<<63-1)
	if spec.From.kind == byPost {
		from = spec.From.post
	}
	if spec.To.kind == byPost {
		below = spec.To.post
	}
	id := freshet.PostID(event.GetId())
	return from <= id && id < below
}

// copyOf is the record as it goes into replays. Its time is now: that of the record would have retention remove it.
func (u *run) copyOf(r *kgo.Record) *kgo.Record {
	return &kgo.Record{Topic: u.replays, Partition: r.Partition, Key: r.Key, Value: r.Value,
		Headers: append(slices.Clone(r.Headers), u.headers(r.Offset)...)}
}

func (u *run) headers(offset int64) []kgo.RecordHeader {
	return []kgo.RecordHeader{
		{Key: fanout.HeaderOffset, Value: strconv.AppendInt(nil, offset, 10)},
		{Key: fanout.HeaderReplay, Value: []byte(u.state.ID)},
	}
}

// produce writes copies and waits until all are acknowledged.
func (u *run) produce(ctx context.Context, copies []*kgo.Record) error {
	for chunk := range slices.Chunk(copies, most) {
		results := u.client.ProduceSync(ctx, chunk...)
		if err := results.FirstErr(); err != nil {
			return fmt.Errorf("copy into %s: %w", u.replays, err)
		}
		for _, result := range results {
			p := u.part(result.Record.Partition)
			p.Until = max(p.Until, result.Record.Offset+1)
		}
		u.state.Copied += int64(len(chunk))
		u.behind += int64(len(chunk))
	}
	if u.o.Rate > 0 {
		if now := time.Now(); u.tokens.Before(now) {
			u.tokens = now
		}
		u.tokens = u.tokens.Add(time.Duration(float64(len(copies)) / u.o.Rate * float64(time.Second)))
	}
	return nil
}

// pace waits until more may be copied: the rate allows it, and the group is not too far behind. Meanwhile it tells how
// far the replay is.
func (u *run) pace(ctx context.Context) error {
	for {
		if err := u.tell(ctx); err != nil {
			return err
		}
		wait := time.Until(u.tokens)
		if u.behind > u.o.Ahead {
			wait = max(wait, lookEvery/10)
		}
		if wait <= 0 {
			return ctx.Err()
		}
		if err := pause.For(ctx, min(wait, lookEvery)); err != nil {
			return err
		}
	}
}

// tell looks up how far the group is, and tells the operator and, at each beat, everybody.
func (u *run) tell(ctx context.Context) error {
	now := time.Now()
	if every := lookEvery; now.Sub(u.looked) >= every || u.behind > u.o.Ahead && now.Sub(u.looked) >= every/10 {
		u.looked = now
		behind, err := u.groupBehind(ctx)
		if err != nil {
			return err
		}
		u.behind = behind
		if u.o.Progress != nil {
			u.o.Progress(u.state, Speed{Behind: behind, Left: u.left(now)})
		}
	}
	if now.Sub(u.beat) < u.cfg.Beat {
		return nil
	}
	u.beat = now
	return u.note(ctx)
}

func (u *run) left(now time.Time) time.Duration {
	done, total := u.state.Progress()
	if done <= u.at {
		return 0
	}
	return time.Duration(float64(now.Sub(u.began)) / float64(done-u.at) * float64(total-done))
}

// groupBehind is how many copies the group has yet to process.
func (u *run) groupBehind(ctx context.Context) (int64, error) {
	committed, err := u.lookup.Committed(ctx, u.state.Group, u.replays)
	if err != nil {
		return 0, err
	}
	behind := int64(0)
	for _, p := range u.state.Parts {
		at := committed[kafka.TopicPartition{Topic: u.replays, Partition: p.Partition}]
		behind += min(max(p.Until-at, 0), u.state.Copied)
	}
	return behind, nil
}

// note writes how far the replay is. If somebody else has written, that is obeyed.
func (u *run) note(ctx context.Context) error {
	for {
		err := u.states.put(ctx, u.state)
		if !errors.Is(err, errConflict) {
			return err
		}
		last := u.states.last[u.state.Group].State
		if last.ID != u.state.ID || last.Owner != u.owner {
			return fmt.Errorf("%w: now there is %s", ErrStopped, last)
		}
		if last.Status == Running {
			continue
		}
		// Stopped, with the progress of the last beat: it is noted how far it really is.
		u.state.Status = last.Status
		if err := u.states.put(ctx, u.state); err != nil && !errors.Is(err, errConflict) {
			return err
		}
		return fmt.Errorf("%w: %s", ErrStopped, u.state)
	}
}

// awaitGroup waits until the group has processed all copies.
func (u *run) awaitGroup(ctx context.Context) error {
	for {
		behind, err := u.groupBehind(ctx)
		if err != nil || behind == 0 {
			return err
		}
		if err := u.tell(ctx); err != nil {
			return err
		}
		if err := pause.For(ctx, lookEvery/4); err != nil {
			return err
		}
	}
}
