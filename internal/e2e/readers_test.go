package e2e

import (
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// readers read feeds all the time and judge every page.
type readers struct {
	stop chan struct{}
	done sync.WaitGroup

	pages, incomplete, refused atomic.Int64
}

// readEvery leaves the machine to those who are read about: each reader reads some hundred times a second.
const readEvery = 4 * time.Millisecond

func (r *run) read(n int, stream uint64) *readers {
	rs := &readers{stop: make(chan struct{})}
	for i := range n {
		random := r.random(stream + uint64(i))
		rs.done.Go(func() {
			tick := time.NewTicker(readEvery)
			defer tick.Stop()
			for {
				select {
				case <-rs.stop:
					return
				case <-tick.C:
				}
				open := r.ledger.open()
				if !r.readSome(rs, open[random.IntN(len(open))], 1+random.IntN(30), 1+random.IntN(3)) {
					return
				}
			}
		})
	}
	return rs
}

// end stops the readers and waits for them.
func (rs *readers) end() {
	close(rs.stop)
	rs.done.Wait()
}

// readSome reads the newest pages of a feed. It returns false when no more is to be read: the process was killed, or a
// page was wrong.
func (r *run) readSome(rs *readers, reader *Account, limit, pages int) bool {
	cursor, before := "", uint64(0)
	for range pages {
		asked, ready, begun := r.ledger.clock(), r.proc.ready.Load() && !r.broken.Load(), time.Now()
		stale := r.stale()
		feed := "/v1/accounts/" + reader.ID + "/feed"
		path := r.proc.url() + feed
		p, a, err := getPage(r.http, path, limit, cursor)
		switch {
		case err != nil && (!r.proc.ready.Load() || r.proc.killed.Load()):
			return !r.proc.killed.Load()
		case err != nil:
			r.t.Errorf("GET %s: %v", path, err)
			return false
		case a.status == http.StatusServiceUnavailable && (!ready || raced()): // slow children run into time-outs
			rs.refused.Add(1)
			return true
		case a.status == http.StatusNotFound || a.status == http.StatusBadRequest && cursor != "":
			// Right for an account that was closed meanwhile, whose id, and so its cursors, may be somebody else's by now.
			leaving := r.ledger.isLeaving(reader)
			if !leaving {
				r.t.Errorf("GET %s: %s", path, a)
			}
			return leaving
		case a.status != http.StatusOK:
			r.t.Errorf("GET %s: %s after %s\n%s", path, a, since(begun), r.proc.logged(feed))
			return false
		}
		rs.pages.Add(1)
		if !p.Complete {
			rs.incomplete.Add(1)
		}
		switch err := r.ledger.judge(reader, p, before, asked); {
		case stale && errors.Is(err, errOld):
			r.staleSeen.Add(1)
			return true
		case err != nil:
			r.t.Errorf("a page of the feed of %s: %v", reader.ID, err)
			return false
		}
		if len(p.Items) > 0 {
			before = p.Items[len(p.Items)-1].id()
		}
		if cursor = p.Next; cursor == "" {
			return true
		}
	}
	return true
}
