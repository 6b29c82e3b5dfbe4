package feeds

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"freshet"
)

func openMini(t *testing.T) (*miniredis.Miniredis, *Redis) {
	t.Helper()
	mini := miniredis.RunT(t)
	conn, err := connectMini(t, mini, Layout{Zones: 4, FeedLength: 5})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return mini, conn
}

// What many ask at the same time is answered to each, and what one of them does wrong is told to that one alone.
func TestGatherAnswersEach(t *testing.T) {
	mini, conn := openMini(t)
	const broken, many = 13, 200
	if _, err := mini.Push(conn.layout.OfAuthor(broken).outboxKey(broken), "no string"); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range freshet.Number(many) {
		wg.Go(func() {
			write := &AppendOutbox{Author: i, IDs: AppendID(nil, freshet.PostID(i+1))}
			read := &ReadOutbox{Author: i}
			err := conn.Do(t.Context(), write, read)
			switch {
			case i == broken && err == nil:
				t.Error("a key of another kind was written")
			case i == broken:
			case err != nil:
				t.Errorf("author %d: %v", i, err)
			case write.Length != idSize || !bytes.Equal(read.Value, write.IDs):
				t.Errorf("author %d: %d bytes, %x", i, write.Length, read.Value)
			}
		})
	}
	wg.Wait()
	conn.gather.close()
	if conn.gather.senders != 0 || len(conn.gather.waiting) != 0 {
		t.Errorf("%d senders, %d waiting, and nobody asks", conn.gather.senders, len(conn.gather.waiting))
	}
}

func TestGatherLetsGoWhoCannotWait(t *testing.T) {
	_, conn := openMini(t)
	ended, end := context.WithCancel(t.Context())
	end()
	if err := conn.Do(ended, &ReadOutbox{Author: 1}); !errors.Is(err, context.Canceled) && err != nil {
		t.Errorf("got %v, want the answer or the context's error", err)
	}
	full := &gather{client: conn.client, senders: gatherSenders} // no pipeline will ever end
	if err := full.do(ended, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
	if calls := full.take(); len(calls) != 0 || len(full.waiting) != 0 {
		t.Errorf("%d requests of nobody would be run, and %d wait", len(calls), len(full.waiting))
	}
}

// A Redis that takes connections and says nothing holds a request no longer than its context, whether it is sent at
// once or waits for others.
func TestSilentRedisHoldsNobody(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conn := newRedis(Layout{Zones: 4, FeedLength: 5}, []string{silent.Addr().String()})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	var wg sync.WaitGroup
	for i := range 4 * gatherSenders {
		wg.Go(func() {
			if err := conn.Do(ctx, &ReadOutbox{Author: freshet.Number(i)}); err == nil {
				t.Error("somebody has answered")
			}
		})
	}
	wg.Wait()
	if took := time.Since(began); took > 8*time.Second { // without a bound it is ReadTimeout, 10 s
		t.Errorf("it took %s", took)
	}
	if err := errors.Join(silent.Close(), conn.Close()); err != nil {
		t.Error(err)
	}
}
