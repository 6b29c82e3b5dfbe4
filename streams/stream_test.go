package streams_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"freshet"
	"freshet/internal/kafka"
)

// Events come in the order in which posts became visible, whoever wrote them; also of authors that are pulled.
func TestOrder(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	p, other := d.api("one"), d.api("two")
	p.register("ann", "bob", "cid", "dee", "eve", "fay")
	p.follow("ann", "bob", "cid", "dee", "eve")
	p.follow("cid", "bob")
	p.follow("dee", "bob")
	p.awaitPulled("bob")
	other.until("the other process knows whom ann follows", func() bool {
		return other.do(http.MethodGet, "accounts/ann", "")["following"] == 4.0
	})
	here, there := p.open("ann", ""), other.open("ann", "")
	dee := p.open("dee", "")
	// What was posted just before may be told.
	p.post("ann", "now")
	p.post("dee", "now")
	for _, r := range []*reader{here, there, dee} {
		for r.next().text() != "post now" {
		}
	}
	for _, r := range []*reader{here, there} {
		r.want("post now")
	}
	var all []string
	for i := range 40 {
		author := []string{"bob", "cid", "dee", "eve", "ann", "fay"}[i%6]
		text := fmt.Sprintf("%d by %s", i, author)
		[]*process{p, other}[i%2].post(author, text)
		if author != "fay" { // whom ann does not follow
			all = append(all, "post "+text)
		}
	}
	here.want(all...)
	there.want(all...)
	for _, text := range all {
		if strings.HasSuffix(text, "bob") || strings.HasSuffix(text, "dee") {
			dee.want(text)
		}
	}
}

// awaitPulled lets an author with too many followers post until it is stated to be pulled.
func (p *process) awaitPulled(author string) {
	p.Helper()
	lookup, err := kafka.NewLookup(p.common.Kafka)
	if err != nil {
		p.Fatal(err)
	}
	defer lookup.Close()
	p.until("an author is pulled", func() bool {
		p.post(author, "to how many?")
		ends, err := lookup.Ends(p.Context(), freshet.DefaultPrefix+string(freshet.Tiers))
		if err != nil {
			p.Fatal(err)
		}
		records := int64(0)
		for _, end := range ends {
			records += end
		}
		return records > 0
	})
}

// A stream shows what the feed shows at the time: edits, deletes, and who may see whom.
func TestWhatAStreamShows(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	p := d.api("one")
	p.register("ann", "bob", "cid", "dee")
	p.follow("ann", "bob")
	r, own := p.open("ann", ""), p.open("bob", "")

	first := p.post("bob", "first")
	r.want("post first")
	p.do(http.MethodPatch, "posts/"+first, `{"text":"edited"}`)
	r.want("edit edited")
	p.do(http.MethodPost, "posts", `{"author":"bob","text":"for followers","visibility":"followers"}`)
	p.do(http.MethodDelete, "posts/"+first, "")
	r.want("post for followers", "delete "+first)
	own.want("post first", "edit edited", "post for followers", "delete "+first)

	p.follow("ann", "cid")
	p.post("cid", "followed")
	r.want("post followed")
	p.do(http.MethodDelete, "accounts/ann/following/cid", "")
	p.post("cid", "unfollowed")
	p.post("bob", "between")
	r.want("post between")

	p.do(http.MethodPut, "accounts/ann/muted/bob", "")
	muted := p.post("bob", "muted")
	p.do(http.MethodPatch, "posts/"+muted, `{"text":"muted, edited"}`)
	p.do(http.MethodDelete, "posts/"+muted, "")
	p.do(http.MethodDelete, "accounts/ann/muted/bob", "")
	p.post("bob", "not muted any more")
	// Of whom is followed anew, what was posted a moment ago may come, or come again.
	r.wantAfterRepeats([]string{"post for followers", "post between", "delete " + muted}, "post not muted any more")

	p.follow("ann", "dee")
	p.do(http.MethodPut, "accounts/dee/blocked/ann", "") // which ends the follow
	p.post("dee", "blocked")
	p.do(http.MethodPut, "accounts/ann/blocked/bob", "")
	p.post("bob", "blocked, too")
	p.post("ann", "alone")
	r.want("post alone")

	// Closing an account ends its stream, and what it wrote is shown to nobody.
	p.follow("ann", "cid")
	p.post("cid", "still open")
	r.wantAfterRepeats([]string{"post followed", "post unfollowed"}, "post still open")
	p.do(http.MethodDelete, "accounts/cid", "")
	p.do(http.MethodDelete, "accounts/ann", "")
	p.register("ann")
	p.until("the stream of a closed account ends", func() bool {
		p.post("ann", "somebody else")
		select {
		case <-r.gone:
			return true
		default:
			return false
		}
	})
	if e := r.next(); !strings.HasPrefix(e.text(), "end ") || !strings.Contains(e.text(), `"status":404`) {
		t.Errorf("the closed account was told %q, not why its stream ends", e.text())
	}
	select {
	case e := <-r.events:
		t.Errorf("the closed account was told %q", e.text())
	default:
	}
}

// Who comes back with the id of an event gets all that came since: from the same process, from another one, and after
// a restart.
func TestResume(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	p, other := d.api("one"), d.api("two")
	p.register("ann", "bob", "cid")
	p.follow("ann", "bob", "cid")
	r := p.open("ann", "")
	kept := p.post("bob", "kept")
	before := []string{"post kept", "post more"}
	p.post("cid", "more")
	r.want(before...)
	from := r.last()
	r.close()

	gone := p.post("bob", "deleted while nobody reads")
	texts := []string{"edit kept, edited"}
	p.do(http.MethodPatch, "posts/"+kept, `{"text":"kept, edited"}`)
	for i := range 300 { // more than are looked up at once
		text := fmt.Sprint("away ", i)
		p.post([]string{"bob", "cid", "ann"}[i%3], text)
		texts = append(texts, "post "+text)
	}
	p.do(http.MethodDelete, "posts/"+gone, "")
	texts = append(texts, "delete "+gone)

	same := p.open("ann", from)
	same.wantAfterRepeats(before, texts...)
	p.post("bob", "live")
	same.want("post live")
	other.open("ann", from).wantAfterRepeats(before, append(texts, "post live")...)
	p.stop()
	p = d.api("one")
	again := p.open("ann", from)
	again.wantAfterRepeats(before, append(texts, "post live")...)
	p.post("cid", "after the restart")
	again.want("post after the restart")

	// The id of its last event is as good as any.
	last := again.last()
	again.close()
	p.post("bob", "the end")
	p.open("ann", last).wantAfterRepeats([]string{"post after the restart"}, "post the end")
	// Each event's id goes on behind the event.
	for _, id := range []string{"", "x", from + "x", strings.ToUpper(from)} {
		if status := p.status("ann", id); (status == http.StatusOK) != (id == "") {
			t.Errorf("Last-Event-ID %q: %d", id, status)
		}
	}
}

// status is how opening a stream is answered.
func (p *process) status(account, last string, headers ...string) int {
	p.Helper()
	r, err := http.NewRequestWithContext(p.Context(), http.MethodGet, p.APIURL()+"/v1/accounts/"+account+"/feed/stream",
		http.NoBody)
	if err != nil {
		p.Fatal(err)
	}
	if last != "" {
		r.Header.Set("Last-Event-ID", last)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		p.Fatal(err)
	}
	if err := response.Body.Close(); err != nil {
		p.Fatal(err)
	}
	return response.StatusCode
}

// A process that is told to end gives its streams what it has and ends them, without waiting for their readers.
func TestDrain(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	p := d.api("one")
	p.register("ann")
	r := p.open("ann", "")
	p.post("ann", "the last one")
	r.want("post the last one")
	begun := time.Now()
	p.stop()
	<-r.gone
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("the process took %s to end", took)
	}
}

// An account may have so many streams and no more, HEAD opens none, and operators see how many there are.
func TestCountsAndLimits(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	p := d.api("one")
	p.register("ann", "bob")
	var readers []*reader
	for range 10 {
		readers = append(readers, p.open("ann", ""))
	}
	if status := p.status("ann", ""); status != http.StatusTooManyRequests {
		t.Errorf("one more stream than allowed: %d", status)
	}
	p.until("operators see the streams", func() bool {
		return strings.Contains(p.metrics(), "\nfreshet_streams_open 10\n")
	})
	readers[0].close()
	p.until("a place is free", func() bool { return p.status("ann", "") == http.StatusOK })
	head, err := http.Head(p.APIURL() + "/v1/accounts/bob/feed/stream")
	if err != nil {
		t.Fatal(err)
	}
	if err := head.Body.Close(); err != nil || head.StatusCode != http.StatusOK {
		t.Errorf("HEAD: %d %v", head.StatusCode, err)
	}
	p.until("the streams are gone", func() bool {
		return strings.Contains(p.metrics(), "\nfreshet_streams_open 9\n")
	})
}

func (p *process) metrics() string {
	p.Helper()
	response, err := http.Get(p.AdminURL() + "/metrics")
	if err != nil {
		p.Fatal(err)
	}
	defer response.Body.Close() //nolint:errcheck // it has been read
	data, err := io.ReadAll(response.Body)
	if err != nil {
		p.Fatal(err)
	}
	return string(data)
}
