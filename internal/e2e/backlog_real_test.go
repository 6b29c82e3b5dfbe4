//go:build real

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

// setting is a number from the environment that makes a run larger.
func setting(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%s: want a number from 1", name, text)
	}
	return n
}

// TestRealBacklog: fan-out is stopped while posts go on at a steady rate, and not one of them fails; then many posts
// come at once. All of them are in every feed in the end.
func TestRealBacklog(t *testing.T) {
	d := deploy(t, 1)
	stop := time.Duration(setting(t, "FRESHET_E2E_STOP", 30)) * time.Second
	rate := setting(t, "FRESHET_E2E_RATE", 100)
	d.budget += 2*stop + time.Duration(stop.Seconds())*time.Duration(rate)*spikeEach
	authors := d.steadyAuthors()
	d.during("fan-out is stopped", false, func() { d.withoutFanout(stop, rate, authors) })
	d.spike(setting(t, "FRESHET_E2E_SPIKE", 20_000))
}

// withoutFanout stops every fan-out process for so long, while posts come at a rate, beside those of the clients, and
// measures how long they need for what has come meanwhile.
func (d *deployment) withoutFanout(stop time.Duration, rate int, authors []*Account) {
	d.t.Helper()
	begun, posts, refused := time.Now(), d.counted("post"), d.counted("refused post")
	steady := d.steadily(rate, authors)
	d.withFanoutStopped(func() {
		for time.Since(begun) < stop {
			d.accepts()
		}
	})
	for _, p := range d.others {
		p.awaitReady()
	}
	waited, accepted := time.Since(begun), d.counted("post")-posts+int64(steady())
	waiting := int64(-1)
	await(d.t, "the backlog is known", func() (bool, string) {
		waiting = d.lag(fanoutGroup, postsTopic)
		return waiting >= 0, "some partitions are nobody's"
	})
	draining := time.Now()
	await(d.t, "the backlog is drained", func() (bool, string) {
		lag := d.lag(fanoutGroup, postsTopic)
		return lag >= 0 && lag < max(20, waiting/50), fmt.Sprintf("%d records of %d are left", lag, waiting)
	})
	took := time.Since(draining)
	if n := d.counted("refused post") - refused; n > 0 {
		d.t.Errorf("%d posts were refused while fan-out was stopped", n)
	}
	came := float64(accepted) / waited.Seconds()
	drained := float64(waiting) / took.Seconds()
	hours := time.Duration(came * 4 * 3600 / drained * float64(time.Second))
	d.t.Logf("fan-out was away for %s, %d posts accepted, %.0f/s; %d records waited when it was there again, drained in "+
		"%s: %.0f/s; what 4 hours at that rate leave behind would take %s", waited.Round(time.Millisecond), accepted, came,
		waiting, took.Round(time.Millisecond), drained, hours.Round(time.Second))
}

const (
	// spikeLines is how many posts a request of a spike has.
	spikeLines = 500
	// spikeEach is what a post of a spike adds to the budget. Most of it is reading it in all the feeds that have it.
	spikeEach = 4 * time.Millisecond
	// steadyEvery is how often posts at a steady rate are sent.
	steadyEvery = 100 * time.Millisecond
)

// batch is posts that are sent in one request.
type batch struct {
	authors []*Account
	texts   []string
}

// newBatch makes up posts of a name by any of the authors.
func (d *deployment) newBatch(name string, posts int, random *rand.Rand, open []*Account) batch {
	b := batch{make([]*Account, posts), make([]string, posts)}
	for i := range posts {
		b.authors[i] = open[random.IntN(len(open))]
		b.texts[i] = fmt.Sprintf("%s-%d by %s", name, i, b.authors[i].ID)
		d.ledger.sending(b.texts[i], b.authors[i])
	}
	return b
}

// send writes a batch and says how many of its posts were accepted; any that is not is an error.
func (d *deployment) send(b batch) int {
	sent := lines{}
	for i, text := range b.texts {
		sent = append(sent, map[string]string{"author": b.authors[i].ID, "text": text})
	}
	a, err := request(d.http, http.MethodPost, d.proc.url()+"/v1/posts/batch", sent)
	if err != nil || a.status != http.StatusMultiStatus {
		d.t.Errorf("a batch was answered %d (%v)", a.status, err)
		return 0
	}
	results := json.NewDecoder(bytes.NewReader(a.body))
	for i, text := range b.texts {
		var result struct {
			Status int
			Post   item
		}
		if err := results.Decode(&result); err != nil || result.Status != http.StatusCreated {
			d.t.Errorf("post %q was answered %d (%v)", text, result.Status, err)
			return i
		}
		d.ledger.posted(result.Post.id(), b.authors[i], text)
	}
	return len(b.texts)
}

// steadily writes posts of these authors at a rate, each second's in ten requests, until it is told to stop, and then
// says how many were accepted.
func (d *deployment) steadily(rate int, authors []*Account) (stop func() int) {
	random := d.random(1 << 34)
	end, accepted := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		defer func() { accepted <- n }()
		tick := time.NewTicker(steadyEvery)
		defer tick.Stop()
		for begun, due, round := time.Now(), 0, 0; ; round++ {
			select {
			case <-end:
				return
			case <-tick.C:
			}
			now := int(time.Since(begun).Seconds() * float64(rate))
			if now > due {
				n += d.send(d.newBatch(fmt.Sprintf("steady-%d", round), now-due, random, authors))
				due = now
			}
		}
	}()
	return func() int {
		close(end)
		return <-accepted
	}
}

// steadyAuthors are new accounts that no client closes, each with a few followers: to more nothing would be delivered.
func (d *deployment) steadyAuthors() (authors []*Account) {
	d.t.Helper()
	for i, c := range d.clients {
		id := fmt.Sprintf("steady%d", i)
		a, err := request(d.http, http.MethodPut, d.proc.url()+"/v1/accounts/"+id, nil)
		if err != nil || a.status != http.StatusCreated {
			d.t.Fatalf("register %s: %s %v", id, a, err)
		}
		authors = append(authors, d.ledger.addAccount(id))
		for _, who := range c.own[:min(4, len(c.own))] {
			if err := c.relate("follow", http.MethodPut, "following", who, authors[i]); err != nil {
				d.t.Fatal(err)
			}
		}
	}
	return authors
}

// spike writes many posts as quickly as they are accepted, and compares every feed with the model.
func (d *deployment) spike(posts int) {
	d.t.Helper()
	random := d.random(1 << 33)
	open := d.ledger.open()
	batches := make([]batch, (posts+spikeLines-1)/spikeLines)
	for i := range batches {
		batches[i] = d.newBatch(fmt.Sprintf("spike-%d", i), spikeLines, random, open)
	}
	begun := time.Now()
	var accepted atomic.Int64
	inParallel(batches, func(b batch) { accepted.Add(int64(d.send(b))) })
	took := time.Since(begun)
	if n := len(batches) * spikeLines; accepted.Load() != int64(n) {
		d.t.Errorf("%d of %d posts were accepted", accepted.Load(), n)
	}
	draining := time.Now()
	d.drained()
	drained := time.Since(draining)
	d.quiet()
	d.t.Logf("spike: %d posts accepted in %s, %.0f/s; delivered and stored %s after the last; all is at rest after %s",
		accepted.Load(), took.Round(time.Millisecond), float64(accepted.Load())/took.Seconds(),
		drained.Round(time.Millisecond), since(begun))
	d.compare("spike")
	if took, may := since(begun), scenarioBudget+time.Duration(posts)*spikeEach; took > may {
		d.t.Errorf("a spike of %d posts took %s, and may take %s", posts, took, may)
	}
}

// drained waits for as long as the backlog of posts goes down.
func (d *deployment) drained() {
	d.t.Helper()
	for left := int64(math.MaxInt64); left > 0; {
		await(d.t, "the backlog goes down", func() (bool, string) {
			fanout, archive := d.lag(fanoutGroup, postsTopic), d.lag("freshet.archive", postsTopic)
			if now := fanout + archive; fanout >= 0 && archive >= 0 && now < left {
				left = now
				return true, ""
			}
			return false, fmt.Sprintf("fan-out lacks %d records, the archive %d", fanout, archive)
		})
	}
}
