package offsets

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"freshet/internal/admin"
	"freshet/internal/app"
	"freshet/internal/app/apptest"
	"freshet/internal/config"
	"freshet/internal/embedded"
)

// patience is how long a test waits for what should happen.
const patience = 30 * time.Second

// deployment is a Kafka that outlives the processes on it.
type deployment struct {
	*Cluster
	t   *testing.T
	cfg config.Config
}

// deploy has the test run beside others.
func deploy(t *testing.T) *deployment {
	t.Helper()
	t.Parallel()
	dir := t.TempDir()
	kafka, err := embedded.StartKafka("", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(kafka.Close)
	cfg := config.Default()
	cfg.Kafka, cfg.DataDir = kafka.Addrs(), filepath.Join(dir, "data")
	cfg.Prefix, cfg.Partitions, cfg.Zones, cfg.Replication, cfg.MinInSync = names.Prefix, 2, 4, 1, 1
	c, err := Open(context.Background(), kafka.Addrs(), names)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return &deployment{c, t, cfg}
}

// run runs a process with every role until stop is called.
func (d *deployment) run() (a *app.App, stop func()) {
	d.t.Helper()
	return apptest.Run(d.t, d.cfg)
}

func (d *deployment) put(a *app.App, path, body string) {
	d.t.Helper()
	r, err := http.NewRequestWithContext(d.t.Context(), http.MethodPut, a.APIURL()+path, bytes.NewBufferString(body))
	if err != nil {
		d.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		d.t.Fatal(err)
	}
	defer answer.Body.Close() //nolint:errcheck // nothing was read
	if answer.StatusCode >= http.StatusMultipleChoices {
		d.t.Fatalf("PUT %s: %s", path, answer.Status)
	}
}

// await waits until the sums over a topic's partitions are as wanted: what the group has committed, and what was
// written.
func (d *deployment) await(group, topic string, committed, end int64) {
	d.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		standings, err := d.standings(d.t.Context(), names.Prefix+group, names.Prefix+topic)
		if err != nil {
			d.t.Fatal(err)
		}
		var gotCommitted, gotEnd int64
		for _, s := range standings {
			gotCommitted, gotEnd = gotCommitted+max(s.Committed, 0), gotEnd+s.End
		}
		if gotCommitted == committed && gotEnd == end {
			return
		}
		if time.Now().After(deadline) {
			d.t.Fatalf("%s in %s: committed %d of %d, want %d of %d", group, topic, gotCommitted, gotEnd, committed, end)
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-d.t.Context().Done():
			d.t.FailNow()
		}
	}
}

func (d *deployment) plan(group, topic, to string) Plan {
	d.t.Helper()
	in, err := ParseScope(names, group, topic)
	if err != nil {
		d.t.Fatal(err)
	}
	p, err := d.Plan(d.t.Context(), in, target(d.t, to), Allow{})
	if err != nil {
		d.t.Fatal(err)
	}
	return p
}

// at executes by the operators' listeners at these URLs.
func at(urls ...string) Execution { return Execution{Admins: urls} }

// Each follow that is processed again is stated again, in a record for the followee: so one sees what a reset has done.
func TestReset(t *testing.T) {
	d := deploy(t)
	a, stop := d.run()
	for _, id := range []string{"ada", "bela", "chidi"} {
		d.put(a, "/v1/accounts/"+id, "{}")
	}
	began := time.Now()
	d.put(a, "/v1/accounts/ada/following/bela", "")
	d.put(a, "/v1/accounts/ada/following/chidi", "")
	d.put(a, "/v1/accounts/bela/following/chidi", "")
	d.await("following", "follows", 3, 3)
	d.await("fanout", "followers", 3, 3)

	p := d.plan("following", "follows", "earliest")
	if p.Records != 3 || len(p.Refused) > 0 {
		t.Fatalf("the plan: %+v", p)
	}
	t.Run("members that nobody can ask", func(t *testing.T) { d.refuseLive(t, p) })

	t.Run("running", func(t *testing.T) {
		if _, err := d.Execute(t.Context(), p, at(a.AdminURL())); err != nil {
			t.Fatal(err)
		}
		d.await("following", "follows", 3, 3)
		d.await("fanout", "followers", 6, 6)
	})

	t.Run("to a time", func(t *testing.T) {
		p := d.plan("following", "follows", began.Format(time.RFC3339Nano))
		if p.Records != 3 || len(p.Refused) > 0 {
			t.Errorf("the plan: %+v", p)
		}
		p = d.plan("following", "follows", time.Now().Add(time.Hour).Format(time.RFC3339))
		if len(p.Refused) != 1 || !strings.Contains(p.Refused[0], "newest record") {
			t.Errorf("the plan for a time to come: %+v", p)
		}
		if _, err := d.Execute(t.Context(), p, at(a.AdminURL())); err == nil {
			t.Error("a plan that was refused has been executed")
		}
	})

	stop()
	t.Run("stopped", func(t *testing.T) {
		p := d.plan("following", "follows", "earliest")
		if _, err := d.Execute(t.Context(), p, at("http://127.0.0.1:1")); err != nil {
			t.Fatal(err)
		}
		d.await("following", "follows", 0, 3)
		if p := d.plan("following", "follows", "earliest"); len(p.Changes()) != 0 {
			t.Errorf("the plan after it was carried out: %+v", p)
		}
		if p := d.plan("following", "follows", "latest"); len(p.Refused) != 1 {
			t.Errorf("the plan to pass over everything: %+v", p)
		}
		d.run()
		d.await("following", "follows", 3, 3)
		d.await("fanout", "followers", 9, 9)
	})
}

func (d *deployment) refuseLive(t *testing.T, p Plan) {
	answers := func(h http.HandlerFunc) string {
		server := httptest.NewServer(h)
		t.Cleanup(server.Close)
		return server.URL
	}
	claims := func(claims ...admin.Claim) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(w).Encode([]admin.Group{{Group: p.Group, Claims: claims}})
		}
	}
	moved := p.Changes()[0].Partition
	for _, tt := range []struct{ name, url, says string }{
		{"no listener", "http://127.0.0.1:1", "does not answer"},
		{"another process", answers(admin.Handler(admin.Config{}).ServeHTTP), "does not run in the process"},
		{"no listener of freshet", answers(http.NotFound), "404"},
		{
			"some partitions", answers(claims(admin.Claim{Topic: p.Moves[0].Topic, Partition: 1 - moved})),
			"do not own partitions",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := d.Execute(t.Context(), p, at(tt.url))
			var live *LiveError
			if !errors.As(err, &live) || len(live.Members) != 1 || live.Members[0].Host == "" {
				t.Fatalf("got %v, want a *LiveError that names a member", err)
			}
			for _, part := range []string{tt.says, live.Members[0].ID, live.Members[0].Host} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("the error %q does not say %q", err, part)
				}
			}
		})
	}
	d.await("fanout", "followers", 3, 3) // nothing was processed again
}

func TestCommitOfAStartedGroupIsRefused(t *testing.T) {
	d := deploy(t)
	a, _ := d.run()
	d.put(a, "/v1/accounts/ada", "{}")
	d.await("directory", "registrations", 1, 1)
	// As if the group had been started after it was described.
	if err := d.commit(t.Context(), d.plan("directory", "registrations", "earliest")); err == nil ||
		!strings.Contains(err.Error(), "started meanwhile") {
		t.Errorf("commit for a group with members: %v", err)
	}
}

func TestGroups(t *testing.T) {
	d := deploy(t)
	_, stop := d.run()
	groups, err := d.Groups(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if len(groups) != len(groupNames(names)) {
		t.Errorf("%d groups, want %d", len(groups), len(groupNames(names)))
	}
	for _, g := range groups {
		if g.State != "Stable" || len(g.Members) != 1 {
			t.Errorf("group %s runs, and is listed as %s with %d members", g.Name, g.State, len(g.Members))
		}
	}
	stop()
	for _, name := range []string{"fanout", names.Group("fanout")} {
		one, err := d.Groups(t.Context(), name)
		if err != nil || len(one) != 1 || one[0].Name != names.Group("fanout") || len(one[0].Members) != 0 {
			t.Errorf("group %s, stopped: %+v, %v", name, one, err)
		}
	}
	if _, err := d.Groups(t.Context(), "nobody"); !errors.Is(err, ErrUnknown) ||
		!strings.Contains(err.Error(), names.Group("fanout")) {
		t.Errorf("a group that does not exist: %v, want those that do", err)
	}
}

func TestListShowsWhatIsGone(t *testing.T) {
	d := deploy(t)
	a, stop := d.run()
	for _, id := range []string{"ada", "bela", "chidi", "dora"} {
		d.put(a, "/v1/accounts/"+id, "{}")
	}
	d.await("directory", "registrations", 4, 4)
	stop()
	standings, err := d.standings(t.Context(), names.Group("directory"), names.Topic("registrations"))
	if err != nil {
		t.Fatal(err)
	}
	at := standings[0]
	if at.End < 2 {
		at = standings[1]
	}
	// The group stands at the beginning, and then all but the last record go.
	var offsets kadm.Offsets
	offsets.AddOffset(names.Topic("registrations"), at.Partition, 0, -1)
	if err := d.adm.CommitAllOffsets(t.Context(), names.Group("directory"), offsets); err != nil {
		t.Fatal(err)
	}
	var cut kadm.Offsets
	cut.AddOffset(names.Topic("registrations"), at.Partition, at.End-1, -1)
	if _, err := d.adm.DeleteRecords(t.Context(), cut); err != nil {
		t.Fatal(err)
	}
	p := d.plan("directory", "registrations", "earliest")
	if m := p.Moves[at.Partition]; m.Gone != at.End-1 || m.New != at.End-1 || len(p.Refused) > 0 {
		t.Errorf("%+v: %+v; want to begin at %d, with as many gone", p, m, at.End-1)
	}
}

func TestOpenNamesWhatDoesNotAnswer(t *testing.T) {
	silent, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close() //nolint:errcheck // nothing was sent
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	for _, address := range []string{"127.0.0.1:1", silent.Addr().String()} {
		if _, err := Open(ctx, []string{address}, names); err == nil || !strings.Contains(err.Error(), address) {
			t.Errorf("open %s: %v, want an error that names it", address, err)
		}
	}
}
