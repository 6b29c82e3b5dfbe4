//go:build real

package e2e

import (
	"testing"
	"time"
)

// TestRealNetwork: the network between processes and servers is slow, stands still, or is cut, for all of them or only
// for some.
func TestRealNetwork(t *testing.T) {
	t.Parallel()
	d := &deployment{run: newRun(t), dir: t.TempDir(), network: newNetwork(t)}
	d.start(1)
	random := d.random(1 << 32)
	pause := func(least, most int) time.Duration { return time.Duration(least+random.IntN(most-least)) * time.Second }
	n := d.network
	all := []*proxy{n.kafka, n.redis, n.apiRedis, n.cassandra}
	d.under("everything takes longer", func() {
		for _, p := range all {
			p.slow(time.Duration(20+random.IntN(80)) * time.Millisecond)
		}
		d.worked(pause(5, 10))
		for _, p := range all {
			p.slow(0)
		}
	})
	for _, way := range []struct {
		to string
		*proxy
	}{{"fan-out", n.redis}, {"the API", n.apiRedis}} {
		d.under("Redis is cut off from "+way.to, func() { d.cut(way.proxy, pause(5, 15)) })
		d.under("Redis is silent for "+way.to, func() { d.silent(way.proxy, pause(5, 15)) })
	}
	d.under("Cassandra is cut off", func() { d.cut(n.cassandra, pause(5, 15)) })
	d.under("Cassandra is silent", func() { d.silent(n.cassandra, pause(5, 15)) })
	// Longer than the groups' sessions.
	d.under("Kafka is cut off", func() { d.cutKafka(n.kafka.cut, n.kafka.mend, pause(12, 20)) })
	d.under("Kafka is silent", func() { d.cutKafka(n.kafka.hold, n.kafka.release, pause(12, 20)) })
	d.wantAll(everything...)
}

// worked lets clients work for so long; posts are accepted all the time.
func (d *deployment) worked(pause time.Duration) {
	d.t.Helper()
	for begun := time.Now(); time.Since(begun) < pause; {
		d.accepts()
	}
}

func (d *deployment) cut(p *proxy, pause time.Duration) {
	d.t.Helper()
	turned := p.turned.Load()
	p.cut()
	d.worked(pause)
	if p.turned.Load() == turned {
		d.t.Error("no connection was broken")
	}
	p.mend()
}

func (d *deployment) silent(p *proxy, pause time.Duration) {
	d.t.Helper()
	p.hold()
	held := p.passed.Load()
	d.worked(pause)
	if passed := p.passed.Load() - held; passed > 4<<20 { // what was being written
		d.t.Errorf("%d bytes came through", passed)
	}
	p.release()
}

// cutKafka makes posts impossible for a while.
func (d *deployment) cutKafka(cut, mend func(), pause time.Duration) {
	d.t.Helper()
	timer := time.NewTimer(pause)
	defer timer.Stop()
	cut()
	d.notAccepting()
	<-timer.C
	mend()
	d.accepts()
}
