package offsets

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"freshet/internal/admin"
)

// registered runs a process that takes in three accounts, and stops it.
func registered(t *testing.T) *deployment {
	d := deploy(t)
	a, stop := d.run()
	for _, id := range []string{"ada", "bela", "chidi"} {
		d.put(a, "/v1/accounts/"+id, "{}")
	}
	d.await("directory", "registrations", 3, 3)
	stop()
	return d
}

// A plan is carried out as it is, or not at all.
func TestAPlanThatNoLongerHoldsIsRefused(t *testing.T) {
	d := registered(t)
	stopped := d.plan("directory", "registrations", "earliest")
	refused := func(p Plan, e Execution, says string) {
		t.Helper()
		e.Undo = func([]Row) error {
			t.Error("the way back was written for a plan that is refused")
			return nil
		}
		var changed *ChangedError
		if _, err := d.Execute(t.Context(), p, e); !errors.As(err, &changed) || !strings.Contains(err.Error(), says) {
			t.Errorf("got %v, want a *ChangedError that says %q", err, says)
		}
	}
	a, stop := d.run()
	refused(stopped, at(a.AdminURL()), "has joined")
	running := d.plan("directory", "registrations", "earliest")
	stop()
	refused(running, at(a.AdminURL()), "has left")
	d.await("directory", "registrations", 3, 3)

	elsewhere := d.plan("directory", "registrations", "earliest")
	elsewhere.Moves[0].Committed += 10
	refused(elsewhere, Execution{}, "it stood at")
	outside := d.plan("directory", "registrations", "earliest")
	for i := range outside.Moves {
		outside.Moves[i].New = 100
	}
	refused(outside, Execution{}, "100 is not in it")
	d.await("directory", "registrations", 3, 3)
}

// Before anything is moved, the way back is written; and it leads back.
func TestUndo(t *testing.T) {
	d := registered(t)
	p := d.plan("directory", "registrations", "earliest")
	noWay := errors.New("the disk is full")
	if _, err := d.Execute(t.Context(), p, Execution{Undo: func([]Row) error { return noWay }}); !errors.Is(err, noWay) {
		t.Errorf("without a way back: %v", err)
	}
	d.await("directory", "registrations", 3, 3)

	var before []Row
	if _, err := d.Execute(t.Context(), p, Execution{Undo: func(rows []Row) error {
		before = rows
		d.await("directory", "registrations", 3, 3)
		return nil
	}}); err != nil {
		t.Fatal(err)
	}
	d.await("directory", "registrations", 0, 3)
	scope, err := FileScope(names, "directory", before)
	if err != nil {
		t.Fatal(err)
	}
	back, err := d.Plan(t.Context(), scope, ToRows(before), Allow{})
	if err != nil || len(back.Refused) != 1 || back.Skipped != 3 {
		t.Errorf("back without leave to skip: %+v, %v", back, err)
	}
	if back, err = d.Plan(t.Context(), scope, ToRows(before), Allow{Skip: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Execute(t.Context(), back, Execution{}); err != nil {
		t.Fatal(err)
	}
	d.await("directory", "registrations", 3, 3)
}

func TestExportAndDelete(t *testing.T) {
	d := registered(t)
	rows, begins, err := d.Export(t.Context(), "directory")
	if err != nil {
		t.Fatal(err)
	}
	sum := int64(0)
	for _, row := range rows {
		if row.Topic == "test.registrations" {
			sum += row.Offset
		}
	}
	if sum != 3 || !slices.ContainsFunc(begins, func(r Row) bool { return r.Topic == "test.profiles" }) {
		t.Errorf("exported %v, of which nothing is committed in %v", rows, begins)
	}

	scope, err := ParseScope(names, "directory", "registrations")
	if err != nil {
		t.Fatal(err)
	}
	deletion, err := d.PlanDelete(t.Context(), "", &scope)
	if err != nil {
		t.Fatal(err)
	}
	_, stop := d.run()
	var live *LiveError
	if err := d.ExecuteDelete(t.Context(), deletion, nil); !errors.As(err, &live) {
		t.Errorf("deleted while the group runs: %v", err)
	}
	stop()
	var undo []Row
	keep := func(rows []Row) error { undo = rows; return nil }
	if err := d.ExecuteDelete(t.Context(), deletion, keep); err != nil {
		t.Fatal(err)
	}
	d.await("directory", "registrations", 0, 3)
	if len(undo) == 0 {
		t.Error("no way back was written")
	}

	whole, err := d.PlanDelete(t.Context(), "archive", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.ExecuteDelete(t.Context(), whole, keep); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Groups(t.Context(), "archive"); !errors.Is(err, ErrUnknown) {
		t.Errorf("the group is deleted, and listed: %v", err)
	}
}

// What a group has yet to process has a time; a member that has nothing to do is shown.
func TestDescribe(t *testing.T) {
	d := registered(t)
	if _, err := d.Execute(t.Context(), d.plan("directory", "registrations", "earliest"), Execution{}); err != nil {
		t.Fatal(err)
	}
	groups, err := d.Describe(t.Context(), "directory")
	if err != nil {
		t.Fatal(err)
	}
	for _, topic := range groups[0].Topics {
		for _, s := range topic.Partitions {
			if s.Lag() > 0 != !s.Next.IsZero() || s.Lag() > 0 && time.Since(s.Next) > time.Hour {
				t.Errorf("%s: %+v", topic.Name, s)
			}
		}
	}
	live, replay := groups[0].Lag()
	if live != 3 || replay != 0 {
		t.Errorf("behind by %d and %d, want 3 and 0", live, replay)
	}

	_, stop := d.run()
	defer stop()
	// A member of its own for a topic with a partition less than there are members.
	other := []kgo.Opt{
		kgo.SeedBrokers(d.brokers...), kgo.ConsumerGroup("test.other"), kgo.ConsumeTopics("test.nodes"),
	}
	spare, err := kgo.NewClient(other...)
	if err != nil {
		t.Fatal(err)
	}
	defer spare.Close()
	second, err := kgo.NewClient(other...)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	deadline := time.Now().Add(patience)
	for {
		groups, err := d.Describe(t.Context(), "other")
		if err == nil && len(groups[0].Members) == 2 && groups[0].State == "Stable" {
			var reads []string
			for _, m := range groups[0].Members {
				reads = append(reads, m.reads())
			}
			slices.Sort(reads)
			if want := []string{"nothing: it waits as a spare", "test.nodes:0"}; !slices.Equal(reads, want) {
				t.Errorf("its members read %q, want %q", reads, want)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the group does not form: %+v, %v", groups, err)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-t.Context().Done():
			t.FailNow()
		}
	}
	groups, err = d.Describe(t.Context(), "directory")
	if err != nil {
		t.Fatal(err)
	}
	for _, topic := range groups[0].Topics {
		for _, s := range topic.Partitions {
			if s.Member.ID == "" || s.Member.Host == "" {
				t.Errorf("%s/%d is read by nobody", topic.Name, s.Partition)
			}
		}
	}
}

// A group of several processes is moved through all of them, each for what it owns.
func TestSeveralProcesses(t *testing.T) {
	p := Plan{Group: "test.fanout", Moves: []Move{
		{Topic: "test.posts", Partition: 0, Committed: 9, New: 4}, {Topic: "test.posts", Partition: 1, Committed: 9, New: 5},
		{Topic: "test.posts", Partition: 2, Committed: 9, New: 9},
	}}
	asked := map[int32]admin.Seek{}
	process := func(owns int32) string {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				_ = json.NewEncoder(w).Encode([]admin.Group{{Group: p.Group, Claims: []admin.Claim{
					{Topic: "test.posts", Partition: owns}, {Topic: "test.replays", Partition: owns},
				}}})
				return
			}
			var seek admin.Seek
			if err := json.NewDecoder(r.Body).Decode(&seek); err != nil || r.URL.Path != admin.SeekPath(p.Group) {
				t.Errorf("%s: %v", r.URL, err)
			}
			asked[owns] = seek
			w.WriteHeader(http.StatusNoContent)
		}))
		t.Cleanup(server.Close)
		return server.URL
	}
	urls := []string{process(0), process(1), process(2)}
	owners, err := awaitClaims(t.Context(), p, urls)
	if err != nil {
		t.Fatal(err)
	}
	if err := seek(t.Context(), p, owners); err != nil {
		t.Fatal(err)
	}
	want := map[int32]admin.Seek{
		0: {Positions: []admin.Position{{Topic: "test.posts", Partition: 0, Offset: 4}}},
		1: {Positions: []admin.Position{{Topic: "test.posts", Partition: 1, Offset: 5}}},
	}
	if !reflect.DeepEqual(asked, want) {
		t.Errorf("asked %v, want %v", asked, want)
	}
	if _, err := awaitClaims(t.Context(), p, urls[1:]); err == nil || !strings.Contains(err.Error(), "test.posts/0") {
		t.Errorf("a partition of a process that is not named: %v", err)
	}
}
