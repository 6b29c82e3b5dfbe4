// Package load puts load on an API: posts, follows and feed reads, each at a rate of its own for a set time, whatever
// the API makes of it (open loop).
//
//	load.go     settings, the run
//	network.go  who posts and who reads: an imported graph, or one that is made
//	probes.go   how long a post takes into a follower's feed
//	loop.go     doing something at a rate, or as often as possible
//	http.go     a connection to the API
package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sync/errgroup"
)

// Config says what load to put where.
type Config struct {
	// API is the base, http://host:port.
	API     string
	Network *Network
	// PostRate, FollowRate and ReadRate are requests a second; 0: none of these.
	PostRate, FollowRate, ReadRate float64
	For                            time.Duration
	// Probe: every so many posts, one is looked for in a follower's feed until it is there. 0: none.
	Probe int
	// Workers is how many requests of a kind can be under way; what is due while all are, waits, and counts from when it
	// was due.
	Workers int
	Seed    uint64
	// Progress is told how far a stage is. It must not block.
	Progress func(stage string, done, total int)
}

// ErrAway is wrapped by the error for an API that does not answer.
var ErrAway = errors.New("the API does not answer")

// Kind is what became of one kind of request.
type Kind struct {
	Sent     int           `json:"sent"`
	Accepted int           `json:"accepted"`
	Errors   int           `json:"errors"`
	First    string        `json:"first_error,omitempty"`
	Rate     float64       `json:"accepted_per_second"`
	Answers  *Percentiles  `json:"answers_ms,omitempty"`
	Took     time.Duration `json:"-"`
}

// Percentiles of times, in milliseconds.
type Percentiles struct {
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p99_9"`
	Max   float64 `json:"max"`
	Count int64   `json:"count"`
}

// PercentilesOf is nil for a histogram of nothing.
func PercentilesOf(h *hdrhistogram.Histogram) *Percentiles {
	if h.TotalCount() == 0 {
		return nil
	}
	at := func(p float64) float64 { return float64(h.ValueAtPercentile(p)) / 1000 }
	return &Percentiles{at(50), at(90), at(99), at(99.9), float64(h.Max()) / 1000, h.TotalCount()}
}

// Report is what became of a load.
type Report struct {
	At       time.Time `json:"at"`
	Command  string    `json:"command,omitempty"`
	API      string    `json:"api"`
	Accounts int       `json:"accounts"`
	Seconds  float64   `json:"seconds"`
	Posts    Kind      `json:"posts"`
	Follows  Kind      `json:"follows"`
	Reads    Kind      `json:"reads"`
	// PostToFeed is from when a post was due until a follower's feed showed it; Unseen are those that it did not show
	// within half a minute.
	PostToFeed *Percentiles `json:"post_to_feed_ms,omitempty"`
	Unseen     int          `json:"unseen"`
}

// Run puts load on the API. An error means that there was no load; what the API refuses is counted.
func Run(ctx context.Context, c Config) (Report, error) {
	if c.Progress == nil {
		c.Progress = func(string, int, int) {}
	}
	report := Report{
		At: time.Now().UTC().Truncate(time.Second), API: c.API, Accounts: len(c.Network.Accounts), Seconds: c.For.Seconds(),
	}
	if err := answers(ctx, c.API); err != nil {
		return report, err
	}
	if err := c.Network.put(ctx, c); err != nil {
		return report, err
	}
	p := newProbes(c)
	var g errgroup.Group
	for _, kind := range []struct {
		to   *Kind
		rate float64
		send func(ctx context.Context, conn *Conn, rng *rand.Rand) error
	}{
		{&report.Posts, c.PostRate, p.post}, {&report.Follows, c.FollowRate, c.follow}, {&report.Reads, c.ReadRate, c.read},
	} {
		if kind.rate > 0 {
			g.Go(func() (err error) {
				*kind.to, err = c.send(ctx, kind.rate, kind.send)
				return err
			})
		}
	}
	g.Go(func() error {
		for began := time.Now(); ctx.Err() == nil && time.Since(began) < c.For; {
			c.Progress("load", int(time.Since(began).Seconds()), int(c.For.Seconds()))
			sleepUntil(ctx, time.Now().Add(time.Second))
		}
		return nil
	})
	err := g.Wait()
	report.PostToFeed, report.Unseen = p.wait()
	return report, err
}

// answers wants any answer at all.
func answers(ctx context.Context, api string) error {
	conn, err := NewConn(api)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, _, err := conn.Do(ctx, http.MethodGet, "/v1/accounts/-", "", nil); err != nil {
		return fmt.Errorf("--api %s: %w: %w", api, ErrAway, err)
	}
	return nil
}

// send sends requests of one kind at a rate.
func (c Config) send(
	ctx context.Context, rate float64, send func(ctx context.Context, conn *Conn, rng *rand.Rand) error,
) (Kind, error) {
	conns, rngs := make([]*Conn, c.Workers), make([]*rand.Rand, c.Workers)
	defer func() {
		for _, conn := range conns {
			if conn != nil {
				conn.Close()
			}
		}
	}()
	for i := range conns {
		conn, err := NewConn(c.API)
		if err != nil {
			return Kind{}, err
		}
		conns[i], rngs[i] = conn, rand.New(rand.NewPCG(c.Seed, uint64(i)))
	}
	o := Open(ctx, c.Workers, rate, c.For, func(ctx context.Context, worker int) error {
		return send(ctx, conns[worker], rngs[worker])
	})
	kind := Kind{
		Sent: o.Sent, Accepted: o.Sent - o.Failed, Errors: o.Failed, Took: o.Took,
		Rate: float64(o.Sent-o.Failed) / o.Took.Seconds(), Answers: PercentilesOf(o.Answers),
	}
	if o.First != nil {
		kind.First = o.First.Error()
	}
	return kind, nil
}

// ErrRefused is wrapped by the errors about requests that the API answered with something else than success.
var ErrRefused = errors.New("refused")

func accepted(method, path string, status int, answer []byte) error {
	if status < http.StatusMultipleChoices {
		return nil
	}
	return fmt.Errorf("%s %s: %w: %d %s", method, path, ErrRefused, status, answer[:min(len(answer), 200)])
}

func do(ctx context.Context, conn *Conn, method, path string, body any) ([]byte, error) {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return nil, fmt.Errorf("encode a request: %w", err)
		}
	}
	status, answer, err := conn.Do(ctx, method, path, "application/json", text)
	if err == nil {
		err = accepted(method, path, status, answer)
	}
	return answer, err
}

func (c Config) read(ctx context.Context, conn *Conn, rng *rand.Rand) error {
	_, err := do(ctx, conn, http.MethodGet, "/v1/accounts/"+c.Network.anyone(rng)+"/feed", nil)
	return err
}

func (c Config) follow(ctx context.Context, conn *Conn, rng *rand.Rand) error {
	follower, followee := c.Network.anyone(rng), c.Network.anyone(rng)
	if follower == followee {
		return nil
	}
	_, err := do(ctx, conn, http.MethodPut, "/v1/accounts/"+follower+"/following/"+followee, nil)
	return err
}
