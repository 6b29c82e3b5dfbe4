package kafka

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/lovoo/goka"
	"github.com/lovoo/goka/codec"
	"github.com/lovoo/goka/storage"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Errors of the coordinator are waited out; the processor is not built again for them.
func TestCoordinatorFaults(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, "posts")
	c.write("posts", 0, 10)
	joins := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.JoinGroup}, TopLevel: true, Err: kerr.CoordinatorNotAvailable,
		Count: 3})
	g := c.group("g", nil)
	var s seen
	r := c.start(g, "g", edges(textInput("posts", func(ctx goka.Context, _ any) { s.add(ctx) })))
	c.awaitCommitted("g", "posts", 0, 10)

	// A member that is forgotten joins again, and repeats nothing that is committed.
	session := g.Session()
	beats := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Heartbeat}, TopLevel: true, Err: kerr.UnknownMemberID})
	await(t, "a new session", func() bool { return g.Session() > session })
	c.write("posts", 0, 1)
	c.awaitCommitted("g", "posts", 0, 11)

	// A seek whose commit fails is not taken for done.
	commits := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Topic: "posts",
		Err: kerr.CoordinatorLoadInProgress, Count: 3})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := g.SeekAndWait(ctx, map[TopicPartition]int64{posts0: 9}); err != nil {
		t.Fatal(err)
	}
	await(t, "two again", func() bool { return s.total.Load() == 13 })
	for name, h := range map[string]*kfake.FaultHandle{"joins": joins, "heartbeats": beats, "commits": commits} {
		if h.Hits() == 0 {
			t.Errorf("no fault hit the %s", name)
		}
	}
	if !r.alive() {
		t.Error("the processor has ended")
	}
}

// The options make a processor, a view and an emitter that agree on partitions and create nothing.
func TestOptions(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 4, "words", "g-table")
	g := c.group("g", nil)
	var wrapped atomic.Bool
	graph := goka.DefineGroup("g",
		textInput("words", func(ctx goka.Context, msg any) { ctx.SetValue(msg) }), goka.Persist(new(codec.String)))
	settings := ProcessorSettings{Config: testConfig, Group: g, Storage: storage.MemoryBuilder(), Logger: testLogger(t),
		WrapProducer: func(p goka.Producer) goka.Producer { wrapped.Store(true); return p }}
	p, err := goka.NewProcessor(c.brokers, graph, ProcessorOptions(settings)...)
	if err != nil {
		t.Fatal(err)
	}
	var clients ViewClients
	view, err := goka.NewView(c.brokers, "g-table", new(codec.String), ViewOptions(ViewSettings{ClientID: "v",
		Config: testConfig, Storage: storage.MemoryBuilder(), Clients: &clients, Logger: testLogger(t)}, nil)...)
	if err != nil {
		t.Fatal(err)
	}
	emitter, err := NewEmitter(c.brokers, "e", testConfig, "words", new(codec.String))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	ready := make(chan struct{})
	go func() { ended <- RunProcessor(ctx, p, func() { close(ready) }) }()
	go func() { ended <- view.Run(ctx) }()
	<-ready
	if !wrapped.Load() {
		t.Error("the producer was not wrapped")
	}
	for _, key := range []string{"a", "b", "c", "d", "e"} {
		if err := emitter.EmitSync(key, key+key); err != nil {
			t.Fatal(err)
		}
		await(t, "the view has "+key, func() bool { v, err := view.Get(key); return err == nil && v == key+key })
	}
	if err := emitter.Finish(); err != nil {
		t.Error(err)
	}
	cancel()
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	if err := clients.Close(); err != nil {
		t.Error(err)
	}
	missing := goka.DefineGroup("other",
		textInput("words", func(goka.Context, any) {}), goka.Persist(new(codec.String)))
	settings.Group = c.group("other", nil)
	if _, err := goka.NewProcessor(c.brokers, missing, ProcessorOptions(settings)...); err == nil {
		t.Error("goka has made a table's topic")
	}
}
