//go:build real

package e2e

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// TestRealFourthBroker: a fourth broker joins, partitions of every topic move to it, those of the groups' offsets too,
// and it leads some of them. Then it is killed, and comes back.
func TestRealFourthBroker(t *testing.T) {
	d := deploy(t, 3)
	d.under("a fourth broker joins", func() {
		d.check(d.kafka.AddBroker(t.Context()))
		d.accepts()
		d.moveToFourth()
		d.accepts()
	})
	d.under("the fourth broker is killed", func() { d.killedBroker(fourth - 1) })
}

// fourth is the id of the broker that joins; the nodes of a server count from 0.
const fourth = 4

// moveToFourth gives the fourth broker the place of one of the three in every partition, in turn, and makes it the
// preferred leader of a third of them.
func (d *deployment) moveToFourth() {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), longestWait)
	defer cancel()
	log := openLog(d.t, d.proc)
	topics, err := log.admin.ListTopicsWithInternal(ctx)
	if err != nil {
		d.t.Fatal(err)
	}
	var order kadm.AlterPartitionAssignmentsReq
	var which kadm.TopicsSet
	all, first := 0, 0
	topics.EachPartition(func(p kadm.PartitionDetail) {
		replicas := slices.Clone(p.Replicas)
		at := int(p.Partition) % len(replicas)
		replicas[at] = fourth
		if at == 0 {
			first++
		}
		all++
		order.Assign(p.Topic, p.Partition, replicas)
		which.Add(p.Topic, p.Partition)
	})
	begun := time.Now()
	ordered, err := log.admin.AlterPartitionAssignments(ctx, order)
	if err == nil {
		err = ordered.Error()
	}
	if err != nil {
		d.t.Fatal(err)
	}
	await(d.t, "partitions are with the fourth broker", func() (bool, string) {
		moving, err := log.admin.ListPartitionReassignments(ctx, which)
		if err != nil {
			return false, err.Error()
		}
		n := 0
		moving.Each(func(kadm.ListPartitionReassignmentsResponse) { n++ })
		return n == 0, fmt.Sprintf("%d are still moving", n)
	})
	leads, holds := 0, 0
	await(d.t, "the fourth broker leads", func() (bool, string) {
		// It answers with an error for those whose leader is the preferred one already.
		if _, err := log.admin.ElectLeaders(ctx, kadm.ElectPreferredReplica, which); err != nil {
			return false, err.Error()
		}
		now, err := log.admin.ListTopicsWithInternal(ctx)
		if err != nil {
			return false, err.Error()
		}
		leads, holds = 0, 0
		now.EachPartition(func(p kadm.PartitionDetail) {
			if p.Leader == fourth {
				leads++
			}
			if slices.Contains(p.ISR, fourth) {
				holds++
			}
		})
		return leads >= first && holds == all, fmt.Sprintf("%d of %d, has %d", leads, first, holds)
	})
	d.t.Logf("the fourth broker has %d partitions and leads %d after %s", holds, leads, since(begun))
}
