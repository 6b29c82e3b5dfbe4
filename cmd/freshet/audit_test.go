package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"freshet"
	"freshet/client"
	"freshet/internal/audit"
)

// TestAuditCommands: the tools that look into feeds, and make them anew, agree about a program in which nothing is
// wrong, and say so in each of their formats.
func TestAuditCommands(t *testing.T) {
	a := start(t)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	api, err := client.New(client.Config{URL: a.APIURL(), HTTP: &http.Client{Transport: transport}})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []freshet.AccountID{"ada", "bela"} {
		if _, err := api.PutAccount(t.Context(), id, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := api.Follow(t.Context(), "ada", "bela"); err != nil {
		t.Fatal(err)
	}
	post, err := api.Publish(t.Context(), client.NewPost{Author: "bela", Text: "a post"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := api.FeedPage(t.Context(), "ada", client.PageOptions{}); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) result {
		servers := []string{"--kafka", a.Kafka()[0], "--redis", a.Redis()[0], "--zones", "4"}
		return command(t, "", append(servers, args...)...)
	}
	run("audit", "--all", "--trees", "--served", "2", "--api", a.APIURL()).expect(t, 0, "differences  0", "")
	r := run("audit", "ada", "-o", "json")
	r.expect(t, 0, "", "")
	var found struct {
		Differences []audit.Difference `json:"differences"`
		Summary     audit.Summary      `json:"summary"`
	}
	if err := json.Unmarshal([]byte(r.stdout), &found); err != nil || found.Summary.Accounts != 1 ||
		found.Differences == nil {
		t.Errorf("%s: %v", r.stdout, err)
	}
	if r := run("audit", "--sample", "1", "-o", "jsonl"); r.code != 0 || r.stdout != "" {
		t.Errorf("%+v", r)
	}
	run("audit", "nobody").expect(t, exitUsage, "", "no account nobody")
	run("audit", "--all", "--zones", "8").expect(t, exitUsage, "", "--zones")
	run("why", "ada", post.ID.String()).expect(t, 0, "ada follows bela since", "")
	run("why", "bela", post.ID.String(), "-o", "json").expect(t, 0, `"belongs": true`, "")
	run("why", "ada", "7").expect(t, 0, "there is no such post", "")
	run("rebuild", "feeds", "ada").expect(t, 0, "1 made cold", "")
	run("rebuild", "feeds", "--all", "-o", "json").expect(t, 0, `"cold": 1`, "") // that of bela
	run("rebuild", "feeds", "--all", "-o", "json").expect(t, 0, `"cold": 0`, "")
	run("rebuild", "feeds", "nobody").expect(t, exitUsage, "", "no such account")
	run("rebuild", "graph", "--all").expect(t, 0, "rows       1 stated again", "")
	why := run("why", "ada", post.ID.String())
	why.expect(t, 0, "The feed is cold", "")
	if !strings.Contains(why.stdout, "is in the feed of ada, as it should be") {
		t.Errorf("of a cold feed it says %s", why.stdout)
	}
}
