//go:build real

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
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
	d.budget += 2 * stop
	d.during("fan-out is stopped", false, func() { d.withoutFanout(stop) })
	d.spike(setting(t, "FRESHET_E2E_SPIKE", 20_000))
}

// withoutFanout stops every fan-out process for so long, and measures how long they need for what has come meanwhile.
func (d *deployment) withoutFanout(stop time.Duration) {
	d.t.Helper()
	begun, posts, refused := time.Now(), d.counted("post"), d.counted("refused post")
	d.withFanoutStopped(func() {
		for time.Since(begun) < stop {
			d.accepts()
		}
	})
	for _, p := range d.others {
		p.awaitReady()
	}
	waited, accepted := time.Since(begun), d.counted("post")-posts
	waiting := d.lag(fanoutGroup, postsTopic)
	draining := time.Now()
	await(d.t, "the backlog is drained", func() (bool, string) {
		lag := d.lag(fanoutGroup, postsTopic)
		return lag >= 0 && lag < max(20, waiting/50), fmt.Sprintf("%d records of %d are left", lag, waiting)
	})
	took := time.Since(draining)
	if n := d.counted("refused post") - refused; n > 0 {
		d.t.Errorf("%d posts were refused while fan-out was stopped", n)
	}
	rate := float64(waiting) / waited.Seconds()
	drained := float64(waiting)/took.Seconds() + rate // more came meanwhile
	hours := time.Duration(rate * 4 * 3600 / (drained - rate) * float64(time.Second))
	d.t.Logf("fan-out was away for %s, %d posts accepted, none refused; %d records, %.0f/s, waited when it was there "+
		"again, drained in %s while more came: %.0f/s; what 4 hours leave behind would take %s",
		waited.Round(time.Millisecond), accepted, waiting, rate, took.Round(time.Millisecond), drained,
		hours.Round(time.Second))
}

const (
	// spikeLines is how many posts a request of a spike has.
	spikeLines = 500
	// spikeEach is what a post of a spike adds to the budget. Most of it is reading it in all the feeds that have it.
	spikeEach = 4 * time.Millisecond
)

// spike writes many posts as quickly as they are accepted, and compares every feed with the model.
func (d *deployment) spike(posts int) {
	d.t.Helper()
	random := d.random(1 << 33)
	open := d.ledger.open()
	type batch struct {
		authors []*Account
		texts   []string
	}
	batches := make([]batch, (posts+spikeLines-1)/spikeLines)
	for i := range batches {
		for j := range spikeLines {
			batches[i].authors = append(batches[i].authors, open[random.IntN(len(open))])
			batches[i].texts = append(batches[i].texts, fmt.Sprintf("spike-%d-%d by %s", i, j, batches[i].authors[j].ID))
			d.ledger.sending(batches[i].texts[j], batches[i].authors[j])
		}
	}
	begun := time.Now()
	var accepted atomic.Int64
	inParallel(batches, func(b batch) {
		sent := lines{}
		for i, text := range b.texts {
			sent = append(sent, map[string]string{"author": b.authors[i].ID, "text": text})
		}
		a, err := request(d.http, http.MethodPost, d.proc.url()+"/v1/posts/batch", sent)
		if err != nil || a.status != http.StatusMultiStatus {
			d.t.Errorf("a batch was answered %d (%v)", a.status, err)
			return
		}
		results := json.NewDecoder(bytes.NewReader(a.body))
		for i, text := range b.texts {
			var result struct {
				Status int
				Post   item
			}
			if err := results.Decode(&result); err != nil || result.Status != http.StatusCreated {
				d.t.Errorf("post %q was answered %d (%v)", text, result.Status, err)
				return
			}
			d.ledger.posted(result.Post.id(), b.authors[i], text)
			accepted.Add(1)
		}
	})
	took := time.Since(begun)
	if n := len(batches) * spikeLines; accepted.Load() != int64(n) {
		d.t.Errorf("%d of %d posts were accepted", accepted.Load(), n)
	}
	d.drained()
	d.quiet()
	d.t.Logf("spike: %d posts accepted in %s, %.0f/s; all is at rest after %s", accepted.Load(),
		took.Round(time.Millisecond), float64(accepted.Load())/took.Seconds(), since(begun))
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
