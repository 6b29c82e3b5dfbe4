package e2e

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/twmb/franz-go/pkg/kadm"

	"freshet/internal/embedded"
)

// TestRemovedRecords: posts wait for fan-out because Redis takes nothing, and when the process is down Kafka removes
// them, and what fan-out had sent to itself. The post store has the posts, so every feed is what the definition says,
// and operators are told.
func TestRemovedRecords(t *testing.T) {
	t.Parallel()
	r := newRun(t)
	kafka, err := embedded.StartKafka("", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(kafka.Close)
	redis := miniredis.RunT(t)
	err = redis.Server().Register("CONFIG", func(c *server.Peer, _ string, _ []string) {
		c.WriteMapLen(1)
		c.WriteBulk("maxmemory-policy")
		c.WriteBulk("noeviction")
	})
	if err != nil {
		t.Fatal(err)
	}
	listen, dir := freePort(t), filepath.Join(t.TempDir(), "data")
	launch := func() {
		r.proc = execute(t, listen, append([]string{
			"run", "all", "--listen", listen, "--admin", "127.0.0.1:0", "--kafka", kafka.Addrs()[0], "--redis", redis.Addr(),
			"--data", dir, "--partitions", strconv.Itoa(partitions), "--replication", "1", "--min-in-sync", "1",
		}, smallFlags...)...)
		r.proc.awaitReady()
	}
	launch()
	inParallel(make([]int, 24), r.registerer())
	clients := r.newClients(4)
	for _, c := range clients { // and so more than one page of followers
		for _, whom := range clients[0].own[:2] {
			for _, who := range c.own[2:] {
				if err := c.relate("follow", http.MethodPut, "following", who, whom); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	r.phase("before", clients, 60, busy)
	r.compare("before")

	redis.SetError("LOADING Redis is loading the dataset in memory")
	r.broken.Store(true)
	<-r.work(clients, 60, []operation{{1, (*client).post}})
	r.broken.Store(false)
	if n := r.counted("refused post"); n > 0 {
		t.Errorf("%d posts were refused while Redis took nothing", n)
	}
	r.committed("freshet.archive", postsTopic)
	r.proc.kill()
	gone := r.removeUnread(fanoutGroup, postsTopic, "freshet.fanout-loop")
	for _, topic := range []string{postsTopic, "freshet.fanout-loop"} {
		if gone[topic] == 0 {
			t.Errorf("nothing of %s was removed that fan-out had not processed: %v", topic, gone)
		}
	}
	redis.SetError("")
	launch()
	r.proc.expected = removedSays
	r.compareFeeds("after posts were removed")
	r.toldOf(gone, r.proc)
	r.phase("afterwards", clients, 30, busy)
	r.compareFeeds("afterwards")
	r.proc.stop()
}

// committed waits until a group has committed all that was in a topic when it was called.
func (r *run) committed(group, topic string) {
	r.t.Helper()
	log := openLog(r.t, r.proc)
	ends, err := log.ends(topic)
	if err != nil {
		r.t.Fatal(err)
	}
	await(r.t, group+" has committed all of "+topic, func() (bool, string) {
		offsets, err := log.admin.FetchOffsetsForTopics(context.Background(), group, topic)
		if err != nil {
			return false, err.Error()
		}
		for at, end := range ends {
			if committed := offsets[at.topic][at.id].At; committed < end {
				return false, fmt.Sprintf("%d of %d in partition %d", committed, end, at.id)
			}
		}
		return true, ""
	})
}

// removedSays is in the log of a process whose group finds records removed.
const removedSays = "records were removed from the log before the group had processed them"

// keptUnread is how many of a partition's last records removeUnread leaves.
const keptUnread = 2

// removeUnread removes, from each partition of the topics of which a group has not processed everything, all but the
// last few records, and says how many that it had not processed.
func (r *run) removeUnread(group string, topics ...string) map[string]int64 {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience())
	defer cancel()
	log := openLog(r.t, r.proc)
	committed, err := log.admin.FetchOffsetsForTopics(ctx, group, topics...)
	if err != nil {
		r.t.Fatal(err)
	}
	ends, err := log.ends(topics...)
	if err != nil {
		r.t.Fatal(err)
	}
	var below kadm.Offsets
	gone := map[string]int64{}
	for at, end := range ends {
		if unread := end - keptUnread - max(0, committed[at.topic][at.id].At); unread > 0 {
			below.AddOffset(at.topic, at.id, end-keptUnread, -1)
			gone[at.topic] += unread
		}
	}
	deleted, err := log.admin.DeleteRecords(ctx, below)
	if err == nil {
		err = deleted.Error()
	}
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Logf("records were removed that %s had not processed: %v", group, gone)
	return gone
}

// toldOf wants the processes of fan-out to have told of what was removed, in their logs and metrics.
func (r *run) toldOf(gone map[string]int64, fanouts ...*process) {
	r.t.Helper()
	counted, said := map[string]int64{}, false
	for _, p := range fanouts {
		said = said || strings.Contains(p.stderr(), removedSays)
		for topic := range gone {
			name := fmt.Sprintf(`freshet_group_removed_messages_total{group=%q,topic=%q}`, fanoutGroup, topic)
			counted[topic] += int64(r.metric(p, name))
		}
	}
	if !said {
		r.t.Error("no log tells of removed records")
	}
	if !maps.Equal(counted, gone) {
		r.t.Errorf("metrics tell of %v, want %v", counted, gone)
	}
}
