//go:build real

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
)

// TestRealRemoved: while fan-out is stopped, its offsets come to lie where the log has nothing. Records that it has not
// read yet are removed, which it says, and goes on; an offset that was never written makes it stand still, and say so.
func TestRealRemoved(t *testing.T) {
	t.Parallel()
	d := deploy(t, 1)
	var gone map[string]int64
	d.during("records are removed that fan-out has not read", false, func() {
		d.withFanoutStopped(func() {
			for range 10 {
				d.accepts()
			}
			d.removable()
			gone = d.removeUnread(fanoutGroup, postsTopic, followersTopic, "freshet.fanout-loop")
		})
		for _, topic := range []string{postsTopic, followersTopic} {
			if gone[topic] == 0 {
				t.Errorf("nothing of %s was removed that fan-out had not processed: %v", topic, gone)
			}
		}
		for _, p := range d.fanouts() {
			p.expected = removedSays
			p.awaitReady()
		}
	})
	d.toldOf(gone, d.fanouts()...)
	d.during("afterwards", false, func() { d.accepts() })

	d.during("fan-out's offset lies beyond the end", false, func() {
		var right kadm.OffsetResponses
		d.withFanoutStopped(func() { right = d.commitBeyond(fanoutGroup, postsTopic) })
		await(t, "fan-out refuses", func() (bool, string) {
			refused, ready := false, 0
			for _, p := range d.fanouts() {
				refused = refused || strings.Contains(p.stderr(), "is outside of its range")
				if announced.MatchString(p.printed()) {
					ready++
				}
			}
			return refused && ready < len(d.fanouts()), fmt.Sprintf("refused: %t; %d processes are ready", refused, ready)
		})
		d.accepts()
		d.withFanoutStopped(func() { d.commitAll(fanoutGroup, right.Offsets()) })
		for _, p := range d.fanouts() {
			p.awaitReady()
		}
	})
}

const followersTopic = "freshet.followers"

func (d *deployment) fanouts() (found []*process) {
	for _, p := range d.others {
		if p.cmd.Args[2] == "fanout" {
			found = append(found, p)
		}
	}
	return found
}

// withFanoutStopped stops every fan-out process, does something, and starts them again. It does not wait until they are
// ready.
func (d *deployment) withFanoutStopped(do func()) {
	d.t.Helper()
	for _, p := range d.fanouts() {
		p.stop()
	}
	do()
	for i, p := range d.others {
		if p.cmd.Args[2] == "fanout" {
			d.others[i] = d.again(p)
		}
	}
}

// removable waits until the archive is done with what is about to be removed: nothing else could make good for that.
// And since trees and counts lack what they were not told until a sweep comes by, nobody looks at counts from now on.
func (d *deployment) removable() {
	d.t.Helper()
	d.uncounted = true
	for _, topic := range []string{postsTopic, followersTopic} {
		d.committed("freshet.archive", topic)
	}
}

// commitBeyond commits an offset of the first partition that is far beyond its end, for a group without members, and
// answers what was committed.
func (d *deployment) commitBeyond(group, topic string) kadm.OffsetResponses {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience())
	defer cancel()
	log := openLog(d.t, d.proc)
	before, err := log.admin.FetchOffsetsForTopics(ctx, group, topic)
	if err != nil {
		d.t.Fatal(err)
	}
	var beyond kadm.Offsets
	beyond.AddOffset(topic, 0, before[topic][0].At+1_000_000, -1)
	d.commitAll(group, beyond)
	return before
}

func (d *deployment) commitAll(group string, offsets kadm.Offsets) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience())
	defer cancel()
	if err := openLog(d.t, d.proc).admin.CommitAllOffsets(ctx, group, offsets); err != nil {
		d.t.Fatal(err)
	}
}
