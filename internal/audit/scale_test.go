package audit_test

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"freshet"
	"freshet/client"
	"freshet/internal/app/apptest"
	"freshet/internal/audit"
	"freshet/internal/config"
	"freshet/internal/feeds"
	"freshet/internal/graph"
	"freshet/internal/kafka"
)

// BenchmarkAudit audits all feeds and trees of FRESHET_ACCOUNTS accounts, 2,000 by default, that follow 20 others each,
// who have posted 10 times: feeds of 200 entries. Everything is embedded in this process, so the post store is made of
// the log, which is a part of what is measured.
func BenchmarkAudit(b *testing.B) {
	accounts := 2000
	if text := os.Getenv("FRESHET_ACCOUNTS"); text != "" {
		var err error
		if accounts, err = strconv.Atoi(text); err != nil {
			b.Fatal(err)
		}
	}
	const follows, posts = 20, 10
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	cfg := config.Default()
	cfg.DataDir = b.TempDir()
	a := apptest.Start(b, cfg)
	api, err := client.New(client.Config{URL: a.APIURL()})
	must(err)
	conn, err := feeds.Connect(b.Context(), cfg.Layout(), a.Redis())
	must(err)
	defer conn.Close() //nolint:errcheck // it was only read

	var edges strings.Builder
	random := rand.New(rand.NewPCG(1, 1))
	for i := range accounts {
		for range follows {
			fmt.Fprintf(&edges, "a%d a%d\n", i, (i+1+random.IntN(accounts-1))%accounts)
		}
	}
	g, _, err := graph.Read(strings.NewReader(edges.String()))
	must(err)
	_, err = graph.Import(b.Context(), g, graph.Config{
		Brokers: a.Kafka(), Names: cfg.Names(), Sarama: kafka.Config, Progress: func(graph.Stage, int, int) {},
		Logger: slog.Default(),
	})
	must(err)
	each := func(do func(i int)) {
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() {
				for i := w; i < accounts; i += 8 {
					do(i)
				}
			})
		}
		wg.Wait()
	}
	id := func(i int) freshet.AccountID { return freshet.AccountID("a" + strconv.Itoa(i)) }
	warm := func(i int) {
		_, err := api.FeedPage(b.Context(), id(i), client.PageOptions{Limit: 1})
		must(err)
	}
	each(warm)
	for range posts {
		var batch []client.NewPost
		for i := range accounts {
			batch = append(batch, client.NewPost{Author: id(i), Text: "a post of middling length, as posts are"})
			if len(batch) == 1000 || i == accounts-1 {
				_, err := api.PublishBatch(b.Context(), batch)
				must(err)
				batch = batch[:0]
			}
		}
	}
	for b.Loop() {
		began := time.Now()
		dir := b.TempDir()
		sources, err := audit.Open(b.Context(), audit.Config{
			Brokers: a.Kafka(), Names: cfg.Names(), Sarama: kafka.Config, Conn: conn, Layout: cfg.Layout(), Dir: dir,
		})
		must(err)
		opened := time.Since(began)
		var s audit.Summary
		for { // fan-out may have some way to go
			s, err = audit.Run(b.Context(), sources, audit.Options{Trees: true})
			must(err)
			if s.Entries > accounts*follows*posts*9/10 {
				break
			}
			began = time.Now().Add(-opened)
		}
		took := time.Since(began)
		must(sources.Close())
		if s.Found() > 0 || s.Checked != accounts {
			b.Fatalf("%+v", s)
		}
		b.ReportMetric(float64(accounts)/took.Seconds(), "accounts/s")
		b.ReportMetric(opened.Seconds(), "s-opening")
		b.ReportMetric(float64(s.Entries)/float64(accounts), "entries/account")
		b.ReportMetric(float64(s.Follows), "follows")
	}
}
