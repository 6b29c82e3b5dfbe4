package load

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const (
	// probeEvery is how often a feed is looked at, and so how exact the time from post to feed is.
	probeEvery = 5 * time.Millisecond
	// probeTime is when a post counts as unseen.
	probeTime = 30 * time.Second
	// probesAtOnce bounds what looking costs the API.
	probesAtOnce = 16
)

// probes posts, and looks for some of the posts in a follower's feed.
type probes struct {
	Config
	sent    atomic.Int64
	running sync.WaitGroup
	places  chan struct{}

	mu     sync.Mutex
	times  *hdrhistogram.Histogram
	unseen int
}

func newProbes(c Config) *probes {
	return &probes{Config: c, places: make(chan struct{}, probesAtOnce), times: NewHistogram()}
}

func (p *probes) post(ctx context.Context, conn *Conn, rng *rand.Rand) error {
	start := time.Now()
	author := p.Network.Authors[rng.IntN(len(p.Network.Authors))]
	number := p.sent.Add(1)
	answer, err := do(ctx, conn, http.MethodPost, "/v1/posts", map[string]string{
		"author": p.Network.Accounts[author],
		"text":   fmt.Sprintf("post %d of a load that began with seed %d", number, p.Seed),
	})
	if err != nil || p.Probe == 0 || number%int64(p.Probe) != 0 {
		return err
	}
	var post struct{ ID string }
	if err := json.Unmarshal(answer, &post); err != nil {
		return fmt.Errorf("the answer to a post: %w", err)
	}
	followers := p.Network.Followers[author]
	reader := p.Network.Accounts[followers[rng.IntN(len(followers))]]
	select {
	case p.places <- struct{}{}:
		p.running.Go(func() {
			p.look(ctx, reader, post.ID, start)
			<-p.places
		})
	default: // enough are being looked for
	}
	return nil
}

// look reads the feed again and again until the post is on its first page.
func (p *probes) look(ctx context.Context, reader, post string, start time.Time) {
	conn, err := NewConn(p.API)
	if err != nil {
		return
	}
	defer conn.Close()
	found := false
	for time.Since(start) < probeTime && ctx.Err() == nil && !found {
		answer, err := do(ctx, conn, http.MethodGet, "/v1/accounts/"+reader+"/feed?limit=100", nil)
		found = err == nil && strings.Contains(string(answer), `"`+post+`"`)
		if !found {
			sleepUntil(ctx, time.Now().Add(probeEvery))
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case found:
		Record(p.times, time.Since(start))
	case ctx.Err() == nil:
		p.unseen++
	}
}

// wait waits for what is still being looked for.
func (p *probes) wait() (*Percentiles, int) {
	p.running.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	return PercentilesOf(p.times), p.unseen
}
