package e2e

import (
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// run is one life of a world: the model, the process that is held against it, and the clients.
type run struct {
	t      *testing.T
	seed   uint64
	http   *http.Client
	ledger *ledger
	proc   *process // with the API
	others []*process
	// restart starts proc again on its data; launch does if it is nil.
	restart func() *process

	// broken is set while servers are away on purpose. Then any request may be answered 503, and what was asked may have
	// happened or not.
	broken atomic.Bool
	// staleUntil is when pages may no longer be as of an earlier time, in nanoseconds since 1970; see unnoticed. staleSeen
	// counts those that were.
	staleUntil, staleSeen atomic.Int64
	uncounted             bool        // counts lack what was removed from the log
	enough                atomic.Bool // clients stop after the operation that they are at

	// Operations on accounts hold life for reading; closing an account, or registering its id again, holds it alone, so
	// that everybody knows whom an id means. Those on a pair of accounts hold the pair's lock, so that the order of its
	// changes is known.
	life  sync.RWMutex
	pairs [256]sync.Mutex

	// star, unless nil, is an account that posts often, and that others often follow or leave.
	star *Account

	operations atomic.Int64 // answered, in all phases
	kinds      sync.Map     // of operation → *atomic.Int64, those that were answered
	retried    atomic.Int64 // answered 503 first
}

// newRun prints the seed, so that a failure can be repeated.
func newRun(t *testing.T) *run {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv("FRESHET_E2E_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("FRESHET_E2E_SEED: %v", err)
		}
	}
	t.Logf("FRESHET_E2E_SEED=%d", seed)
	return &run{t: t, seed: seed, http: connections(t), ledger: newLedger()}
}

// rounds is how often a random test goes through its faults, and work how many times as large it is as in a run of all
// tests.
func rounds(t *testing.T) int { return factor(t, "FRESHET_E2E_ROUNDS") }
func work(t *testing.T) int   { return factor(t, "FRESHET_E2E_WORK") }

// factor is what a variable of the environment says, 1 if it says nothing.
func factor(t *testing.T, variable string) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return 1
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%s: want a number from 1", variable, text)
	}
	return n
}

func (r *run) random(stream uint64) *rand.Rand { return rand.New(rand.NewPCG(r.seed, stream)) }

// stale says that what is read from now on may be as of an earlier time.
func (r *run) stale() bool { return time.Now().UnixNano() < r.staleUntil.Load() }

func (r *run) count(kind string) {
	n, _ := r.kinds.LoadOrStore(kind, new(atomic.Int64))
	n.(*atomic.Int64).Add(1)
	r.operations.Add(1)
}

// counted is how many operations of a kind were answered.
func (r *run) counted(kind string) int64 {
	n, ok := r.kinds.Load(kind)
	if !ok {
		return 0
	}
	return n.(*atomic.Int64).Load()
}

func (r *run) pair(a, b *Account) *sync.Mutex {
	return &r.pairs[(sum(a.ID)+sum(b.ID))%uint64(len(r.pairs))]
}

func sum(text string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(text)) // never fails
	return h.Sum64()
}

// registerer registers account after account.
func (r *run) registerer() func(int) {
	var n atomic.Int64
	return func(int) {
		id := fmt.Sprintf("a%d", n.Add(1))
		a, err := request(r.http, http.MethodPut, r.proc.url()+"/v1/accounts/"+id, nil)
		if err != nil || a.status != http.StatusCreated {
			r.t.Errorf("register %s: %s %v", id, a, err)
			return
		}
		r.ledger.addAccount(id)
	}
}

// phase lets the clients work, and breaks things when a third of it is done.
func (r *run) phase(name string, clients []*client, work int, mix []operation, faults ...fault) {
	r.t.Helper()
	begun := time.Now()
	readers := r.read(2, uint64(r.operations.Load())<<16)
	before := r.operations.Load()
	finished := r.work(clients, work, mix)
	if len(faults) > 0 {
		r.awaitOperations(before+int64(len(clients)*work/3), finished)
		broken := r.operations.Load()
		for _, f := range faults {
			f.do(r, r.random(uint64(before)))
		}
		<-finished
		if r.operations.Load() == broken {
			r.t.Errorf("%s: nothing was done since", name)
		}
	}
	<-finished
	took := time.Since(begun)
	if len(faults) > 0 { // pages are incomplete now, if ever
		r.quiet()
	}
	readers.end()
	r.tell(name, before, took, readers)
}

// ended lets the clients work, ends the process when they have done that much and more, and starts another one on its
// data, while readers read as soon as it listens.
func (r *run) ended(
	name string, clients []*client, work int, mix []operation, flags []string, end func(*process), first ...fault,
) {
	r.t.Helper()
	begun := time.Now()
	before := r.operations.Load()
	readers := r.read(2, uint64(before)<<16)
	finished := r.work(clients, math.MaxInt, mix)
	r.awaitOperations(before+int64(len(clients)*work), finished)
	for _, f := range first {
		f.do(r, r.random(uint64(before)))
	}
	end(r.proc)
	<-finished
	readers.end()
	r.tell(name, before, time.Since(begun), readers)

	if r.restart != nil {
		r.proc = r.restart()
	} else {
		r.proc = launch(r.t, r.proc.listen, flags...)
	}
	readers = r.read(2, uint64(before)<<16+8)
	r.proc.awaitReady()
	took := time.Since(r.proc.begun)
	r.quiet()
	readers.end()
	r.t.Logf("%s: ready again after %s, %d requests refused before; %d pages until it was quiet, %d of them incomplete",
		name, took.Round(time.Millisecond), readers.refused.Load(), readers.pages.Load(), readers.incomplete.Load())
	r.findLost()
}

// work lets every client do its operations; the channel is closed when all have ended.
func (r *run) work(clients []*client, n int, mix []operation) <-chan struct{} {
	finished := make(chan struct{})
	var all sync.WaitGroup
	for _, c := range clients {
		all.Go(func() { c.work(n, mix) })
	}
	go func() {
		all.Wait()
		close(finished)
	}()
	return finished
}

// awaitOperations waits until so many operations are done, or the clients have ended.
func (r *run) awaitOperations(n int64, finished <-chan struct{}) {
	r.t.Helper()
	await(r.t, "operations are done", func() (bool, string) {
		select {
		case <-finished:
			r.t.Fatal("the clients have ended too soon")
		default:
		}
		return r.operations.Load() >= n, fmt.Sprintf("%d of %d", r.operations.Load(), n)
	})
}

func (r *run) tell(name string, before int64, took time.Duration, readers *readers) {
	done := r.operations.Load() - before
	r.t.Logf("%s: %d operations in %s, %.0f/s; %d pages read, %d of them incomplete", name, done,
		took.Round(time.Millisecond), float64(done)/took.Seconds(), readers.pages.Load(), readers.incomplete.Load())
	if readers.pages.Load() == 0 {
		r.t.Errorf("%s: no page was read", name)
	}
}

// wantAll wants that there were operations of every kind.
func (r *run) wantAll(kinds ...string) {
	var seen []string
	r.kinds.Range(func(kind, n any) bool {
		seen = append(seen, kind.(string))
		r.t.Logf("%6d × %s", n.(*atomic.Int64).Load(), kind)
		return true
	})
	for _, kind := range kinds {
		if !slices.Contains(seen, kind) {
			r.t.Errorf("there was no operation %q", kind)
		}
	}
	r.t.Logf("%d operations in all, %d answers \"not now\"", r.operations.Load(), r.retried.Load())
}
