// Command postcounts is a consumer of one's own: a group that counts the posts of each author, in a table of its own.
// docs/new-consumer.md goes through it. Its arguments are addresses of Kafka brokers.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"

	"github.com/lovoo/goka"
	"github.com/lovoo/goka/storage"

	"freshet"
	"freshet/internal/events"
	"freshet/internal/kafka"
)

// row is what the table has of an author. Next is behind the last event counted: those before it may come again.
type row struct{ Posts, Next int64 }

type rows struct{}

func (rows) Encode(value any) ([]byte, error) { return json.Marshal(value) }
func (rows) Decode(data []byte) (any, error)  { r := new(row); return r, json.Unmarshal(data, r) }

func run(ctx context.Context, brokers []string, out io.Writer) error {
	names, group := freshet.Names{Prefix: freshet.DefaultPrefix}, freshet.Group("postcounts")
	count := func(ctx goka.Context, event *events.PostEvent) error {
		r, _ := ctx.Value().(*row)
		if r == nil {
			r = &row{}
		}
		if event.GetKind() == events.PostEvent_CREATED && ctx.Offset() >= r.Next {
			ctx.SetValue(&row{r.Posts + 1, ctx.Offset() + 1})
			fmt.Fprintln(out, ctx.Key(), r.Posts+1)
		}
		return nil
	}
	topics := goka.NewTopicManagerConfig()
	topics.Table.Replication = 1 // more, where there are more brokers
	p, err := goka.NewProcessor(brokers, goka.DefineGroup(goka.Group(names.Group(group)),
		kafka.Input(names.Topic(freshet.Posts), names, group, count), goka.Persist(rows{}), kafka.DeadLetters(names)),
		append(kafka.ProcessorOptions(kafka.ProcessorSettings{
			Group:   kafka.NewGroup(kafka.GroupConfig{Name: names.Group(group), Brokers: brokers}),
			Storage: storage.MemoryBuilder(), // read back from the table's topic at each start
		}), goka.WithTopicManagerBuilder(goka.TopicManagerBuilderWithTopicManagerConfig(topics)))...)
	if err != nil {
		return fmt.Errorf("make the processor: %w", err)
	}
	return kafka.RunProcessor(ctx, p, func() {})
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "postcounts:", err)
		os.Exit(1)
	}
}
