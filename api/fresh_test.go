package api_test

import (
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"freshet"
)

// holdTable keeps a table's records from views until release is called. What is written into it Kafka takes.
func (d *deployment) holdTable(t *testing.T, group freshet.Group) (release func()) {
	t.Helper()
	topic, released := d.Names.Table(group), make(chan struct{})
	release = sync.OnceFunc(func() { close(released) })
	t.Cleanup(release)
	var held atomic.Int64
	d.Fake.ControlKey(int16(kmsg.Fetch), func(r kmsg.Request) (kmsg.Response, error, bool) {
		d.Fake.KeepControl()
		fetch, ok := r.(*kmsg.FetchRequest)
		for i := range fetch.Topics {
			if ok && fetch.Topics[i].Topic == topic {
				held.Add(1)
				d.Fake.SleepControl(func() { <-released })
			}
		}
		return nil, nil, false
	})
	d.Until("the view is held", func() bool { return held.Load() > 0 })
	return release
}

// TestViewsBehind: an API process whose view is behind its table does not show what others have hidden. It waits for a
// second, and then answers that it cannot tell now; posting and what it needs go on.
func TestViewsBehind(t *testing.T) {
	for name, tt := range map[string]struct {
		group  freshet.Group
		hide   [2]string
		hidden int
	}{
		"a block":                   {freshet.FollowingGroup, [2]string{http.MethodPut, "/v1/accounts/ada/blocked/bob"}, 404},
		"an account that is closed": {freshet.DirectoryGroup, [2]string{http.MethodDelete, "/v1/accounts/ada"}, 404},
	} {
		t.Run(name, func(t *testing.T) {
			d := deploy(t)
			p := d.start(t)
			p.register("ada", "bob")
			var made post
			p.do(http.MethodPost, "/v1/posts", `{"author":"ada","text":"hello"}`).want(http.StatusCreated).json(&made)
			paths := []string{
				"/v1/posts/" + made.ID, "/v1/accounts/ada/posts", "/v1/accounts/bob/feed", "/v1/accounts/ada/following",
				"/v1/accounts/ada/followers", "/v1/accounts/bob/feed/stream",
			}
			for _, path := range paths {
				p.do(http.MethodGet, path, "", "Freshet-Viewer", "bob").want(http.StatusOK)
			}
			release := d.holdTable(t, tt.group)
			a := p.within(500*time.Millisecond, tt.hide[0], tt.hide[1]).want(http.StatusServiceUnavailable)
			if !strings.Contains(string(a.body), "was accepted") {
				t.Fatalf("it was not written: %s", a.body)
			}
			d.Until("nothing is shown", func() bool {
				return p.do(http.MethodGet, paths[0], "", "Freshet-Viewer", "bob").status == http.StatusServiceUnavailable
			})
			for _, path := range paths {
				a := p.do(http.MethodGet, path, "", "Freshet-Viewer", "bob").want(http.StatusServiceUnavailable)
				if a.header.Get("Retry-After") == "" || !strings.Contains(string(a.body), "is behind") {
					t.Errorf("%s: %v %s", path, a.header, a.body)
				}
			}
			p.do(http.MethodPost, "/v1/posts", `{"author":"bob","text":"hello"}`).want(http.StatusCreated)
			release()
			d.Until("reads are answered", func() bool {
				return p.do(http.MethodGet, paths[0], "", "Freshet-Viewer", "bob").status != http.StatusServiceUnavailable
			})
			p.do(http.MethodGet, paths[0], "", "Freshet-Viewer", "bob").want(tt.hidden)
		})
	}
}
