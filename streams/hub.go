package streams

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"freshet"
	"freshet/views"
)

// The bounds of a process's streams, unless Config says otherwise.
const (
	// DefaultMost is how many streams a process keeps open. One takes some 30 KB with its connection.
	DefaultMost = 20_000
	// DefaultMostOfAccount is how many of them may be of one account: a few devices with a few windows each.
	DefaultMostOfAccount = 10
	// DefaultQueue is how many events may wait in a stream for its reader to take them. Past that the reader is too slow
	// and has to come back; what waits is shared by all streams, so it costs 8 bytes an event.
	DefaultQueue = 1024
)

// The errors of streams.
var (
	// ErrSlow ends a stream whose reader did not take what it was sent.
	ErrSlow = errors.New("the reader of the stream is too slow")
	// ErrEnding ends all streams of a process that is about to end.
	ErrEnding = errors.New("the process ends")
	// ErrMost is returned by Open where the process has as many streams as it takes.
	ErrMost = errors.New("this process has as many open streams as it takes")
	// ErrMostOfAccount is returned by Open where the account has as many streams as it may have here.
	ErrMostOfAccount = errors.New("the account has as many open streams as it may have")
)

// Config is what a Hub stands on.
type Config struct {
	Brokers    []string
	Topic      string // of posts, by its name in Kafka
	Partitions int32
	Client     []kgo.Opt // see kafka.ClientOptions
	Feeds      *views.Feeds
	Rows       views.Rows
	Accounts   views.Directory
	// Fresh says whether Rows and Accounts are behind; nothing is told then. Nil says that they never are.
	Fresh *views.Fresh
	// Most, MostOfAccount and Queue bound the streams; 0 means the defaults.
	Most, MostOfAccount, Queue int
	// Ring is how many records are kept for those who come back; 0 means DefaultRing.
	Ring int
	// Held is how many records may be held at once, and HeldFor for how long; 0 means DefaultHeld and DefaultHeldFor.
	Held    int
	HeldFor time.Duration
	// Log is slog.Default() if nil.
	Log *slog.Logger
}

// Counts are what a Hub has done since it was made, and has open.
type Counts struct {
	Open    int64         // streams
	Events  int64         // given to streams, each stream counted
	Slow    int64         // streams that were ended because their readers were too slow
	Resumes int64         // streams that began in the past
	Replays int64         // of these, those that had to read the log
	Resets  int64         // streams that were told to read the feed anew
	Waiting int64         // records that had to wait for readers to find what they say
	Held    int64         // of these, those that wait now
	Delay   time.Duration // from the record to the streams, of the last round
	Records int64         // of posts that were read
}

// Hub has the open streams of a process. Run it; the other methods are safe for concurrent use.
type Hub struct {
	cfg     Config
	log     *slog.Logger
	ready   chan struct{}
	ending  context.Context //nolint:containedctx // ends when all streams have to; it is nobody's request
	end     context.CancelFunc
	replays chan struct{} // a place for each that reads the log

	noted   atomic.Int64 // streams in byAccount: spares the records of a view's recovery the lock
	events  atomic.Int64
	slow    atomic.Int64
	resumes atomic.Int64
	read    atomic.Int64
	logs    atomic.Int64
	resets  atomic.Int64
	waiting atomic.Int64
	delay   atomic.Int64

	mu        sync.Mutex
	ring      ring
	next      Position // what was handed out ends here
	mark      *Mark    // at next
	byAccount map[freshet.Number][]*Stream
	byAuthor  map[freshet.Number][]*Stream // who follows
	stale     []*Stream                    // their accounts' rows have changed
	late      []*Stream                    // they follow somebody more
	held      []*held                      // what readers do not find yet, in the order of the log
	stuck     map[*Stream]struct{}         // those that wait for one of held

	refreshing sync.Mutex    // held while stale streams are indexed
	kick       chan struct{} // has a value when there are stale or late streams
	holds      chan struct{} // has a value when there is more in held
}

// New makes a hub.
func New(c Config) *Hub {
	c.Most = cmp.Or(c.Most, DefaultMost)
	c.MostOfAccount = cmp.Or(c.MostOfAccount, DefaultMostOfAccount)
	c.Queue = cmp.Or(c.Queue, DefaultQueue)
	c.Ring = cmp.Or(c.Ring, DefaultRing)
	c.Held = cmp.Or(c.Held, DefaultHeld)
	c.HeldFor = cmp.Or(c.HeldFor, DefaultHeldFor)
	h := &Hub{
		cfg: c, log: c.Log, ready: make(chan struct{}),
		replays: make(chan struct{}, replaysAtOnce), byAccount: map[freshet.Number][]*Stream{},
		byAuthor: map[freshet.Number][]*Stream{}, kick: make(chan struct{}, 1), holds: make(chan struct{}, 1),
		stuck: map[*Stream]struct{}{},
	}
	if h.log == nil {
		h.log = slog.Default()
	}
	h.ending, h.end = context.WithCancel(context.Background())
	return h
}

// Ready is closed once streams can be opened.
func (h *Hub) Ready() <-chan struct{} { return h.ready }

// Drain ends all streams, when they have given what waits in them, and those that are opened from now on.
func (h *Hub) Drain() { h.end() }

// Counts tells how it goes.
func (h *Hub) Counts() Counts {
	h.mu.Lock()
	held := int64(len(h.held))
	h.mu.Unlock()
	return Counts{
		Held: held, Open: h.noted.Load(), Events: h.events.Load(), Slow: h.slow.Load(), Resumes: h.resumes.Load(),
		Replays: h.logs.Load(), Resets: h.resets.Load(), Waiting: h.waiting.Load(),
		Delay: time.Duration(h.delay.Load()), Records: h.read.Load(),
	}
}

// Changed is told of each account whose row of following has changed, after look-ups find the new row.
func (h *Hub) Changed(account freshet.Number) {
	if h.noted.Load() == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.byAccount[account] {
		if !s.stale {
			s.stale = true
			h.stale = append(h.stale, s)
			h.rouse()
		}
	}
}

func (h *Hub) rouse() {
	select {
	case h.kick <- struct{}{}:
	default:
	}
}

// refreshAll indexes the streams anew whose rows have changed.
func (h *Hub) refreshAll() error {
	h.refreshing.Lock()
	defer h.refreshing.Unlock()
	h.mu.Lock()
	stale := h.stale
	h.stale = nil
	h.mu.Unlock()
	for i, s := range stale {
		if err := h.refresh(s); err != nil {
			h.mu.Lock()
			h.stale = append(h.stale, stale[i:]...)
			h.mu.Unlock()
			return err
		}
	}
	return nil
}

// refresh indexes a stream anew if its account's row has changed. When it returns nil, what the stream wants is what
// the row said when refresh was called, or later.
func (h *Hub) refresh(s *Stream) error {
	s.refreshing.Lock()
	defer s.refreshing.Unlock()
	for {
		h.mu.Lock()
		stale := s.stale
		s.stale = false
		h.mu.Unlock()
		if !stale {
			return nil
		}
		row, err := h.cfg.Rows.Row(s.account)
		h.mu.Lock()
		if err != nil {
			s.stale = true
		} else if !s.closed {
			h.index(s, wanted(s.account, row))
		}
		h.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

// wanted is whose posts belong into the account's feed, as far as its own row decides it: its own, and those of whom it
// follows and neither mutes nor blocks. It is sorted.
func wanted(account freshet.Number, row *freshet.Following) []freshet.Number {
	authors := make([]freshet.Number, 0, 1+len(row.All()))
	for _, r := range row.All() {
		if r.Follows && r.Account != account && !row.Mutes(r.Account) && !row.Blocks(r.Account) {
			authors = append(authors, r.Account)
		}
	}
	i, _ := slices.BinarySearch(authors, account)
	return slices.Insert(authors, i, account)
}

// index replaces the stream's authors, both sorted. The caller holds mu.
func (h *Hub) index(s *Stream, authors []freshet.Number) {
	before := s.wants
	s.wants = authors
	for len(before) > 0 || len(authors) > 0 {
		switch {
		case len(authors) == 0 || len(before) > 0 && before[0] < authors[0]:
			h.forget(before[0], s)
			before = before[1:]
		case len(before) == 0 || authors[0] < before[0]:
			h.byAuthor[authors[0]] = append(h.byAuthor[authors[0]], s)
			if s.opened {
				s.late = append(s.late, authors[0])
			}
			authors = authors[1:]
		default:
			before, authors = before[1:], authors[1:]
		}
	}
	if len(s.late) > 0 {
		h.late = append(h.late, s)
		h.rouse()
	}
}

// forget takes a stream out of an author's. The caller holds mu.
func (h *Hub) forget(author freshet.Number, s *Stream) {
	streams := h.byAuthor[author]
	i := slices.Index(streams, s)
	last := len(streams) - 1
	streams[i], streams[last] = streams[last], nil
	if last == 0 {
		delete(h.byAuthor, author)
		return
	}
	h.byAuthor[author] = streams[:last]
}

// shows says whether an event belongs into the stream, by the rule of all pages. What the stream's own row says is in
// wants.
func (h *Hub) shows(s *Stream, wants []freshet.Number, post freshet.Post) (bool, error) {
	if _, found := slices.BinarySearch(wants, post.Author); !found {
		return false, nil
	}
	account, known, err := h.cfg.Accounts.ByNumber(post.Author)
	if err != nil {
		return false, err
	}
	row, err := h.cfg.Rows.Row(post.Author)
	if err != nil {
		return false, err
	}
	self := post.Author == s.account
	return freshet.InFeed(post, freshet.Relationship{
		Self: self, Follows: !self, BlockedBy: row.Blocks(s.account), AuthorClosed: known && account.Closed,
	}), nil
}
