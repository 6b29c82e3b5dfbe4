package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// TestDamage: values in Redis are damaged by something that is not freshet. It is noticed and told to operators, nobody
// is shown what the values say then, and every feed comes back as the definition has it.
func TestDamage(t *testing.T) {
	t.Parallel()
	r := newRun(t)
	r.proc = start(t, smallFlags...) // nobody is pulled, so that logs have all posts however long this takes
	inParallel(make([]int, 8), r.registerer())
	c := r.newClients(1)[0]
	for _, who := range c.own[1:] {
		if err := c.relate("follow", http.MethodPut, "following", who, c.own[0]); err != nil {
			t.Fatal(err)
		}
	}
	post := func() {
		for range 4 * len(c.own) {
			if err := c.post(); err != nil {
				t.Fatal(err)
			}
		}
	}
	post()
	r.compareFeeds("cold feeds")
	client := openRedis(t, r.proc)
	// The last eight bytes of a feed are its oldest post, those of a log its newest.
	const noPost = "\xff\xff\xff\xff\xff\xff\xff\xff"
	for name, damage := range map[string]struct {
		keys string
		do   func(value string) string
	}{
		"feeds without a header":        {"feeds", func(string) string { return "damaged" }},
		"feeds cut in the middle":       {"feeds", func(v string) string { return v[:len(v)-3] }},
		"feeds with a post that is not": {"feeds", func(v string) string { return v[:len(v)-8] + noPost }},
		"logs cut in the middle":        {"log", func(v string) string { return v[:len(v)-3] }},
		"logs with a slot that is not":  {"log", func(v string) string { return "\xff" + v[1:] }},
	} {
		before := r.corruptValues()
		post() // so that logs have something
		r.quiet()
		if n := damageAll(t, client, damage.keys, damage.do); n == 0 {
			t.Errorf("%s: nothing to damage", name)
		}
		r.compareFeeds(name)
		if after := r.corruptValues(); after <= before {
			t.Errorf("%s: %v corrupt values are counted, as before", name, after)
		}
		if !strings.Contains(r.proc.stderr(), "redis holds a corrupt value") {
			t.Errorf("%s: nothing is logged", name)
		}
	}
	r.proc.stop()
}

// damageAll changes the values of all keys of a kind, of hashes those of accounts, and answers how many.
func damageAll(t *testing.T, client *redis.Client, kind string, damage func(string) string) (changed int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience())
	defer cancel()
	keys, err := client.Keys(ctx, fmt.Sprintf("{z*}:%s:*", kind)).Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		if kind == "log" {
			value, err := client.Get(ctx, key).Result()
			if err == nil && value != "" {
				err = client.Set(ctx, key, damage(value), 0).Err()
				changed++
			}
			if err != nil {
				t.Fatal(err)
			}
			continue
		}
		fields, err := client.HGetAll(ctx, key).Result()
		if err != nil {
			t.Fatal(err)
		}
		for slot, value := range fields {
			if _, err := strconv.Atoi(slot); err != nil { // the generation
				continue
			}
			if err := client.HSet(ctx, key, slot, damage(value)).Err(); err != nil {
				t.Fatal(err)
			}
			changed++
		}
	}
	return changed
}

// corruptValues is what the process counts.
func (r *run) corruptValues() float64 {
	r.t.Helper()
	return r.metric(r.proc, "freshet_corrupt_values_total")
}

// metric is the value of a metric, with its labels, of a process; 0 if it has none of that name.
func (r *run) metric(p *process, name string) float64 {
	r.t.Helper()
	a, err := request(r.http, http.MethodGet, p.admin+"/metrics", nil)
	if err != nil {
		r.t.Fatal(err)
	}
	for line := range strings.Lines(string(a.body)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			number, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				r.t.Fatal(err)
			}
			return number
		}
	}
	return 0
}
