// Package directory keeps who has which account id: group directory.
//
// Its table has a row under each account id, with the account's number, name and state, and a row under '#' and each
// number, with the id. The first is written from registrations and profiles, which are keyed by id; the second has
// another key, so the first one's callback sends it through the loop.
//
//	registrations --> register --+--> row of the id
//	profiles      --> update   --+
//	                  register -----> loop --> row of the number
//
// rules.go says what a record does to a row; this file only carries rows and records to the rules and back.
package directory

import (
	"errors"
	"fmt"

	"github.com/lovoo/goka"
	"google.golang.org/protobuf/proto"

	"freshet"
	"freshet/internal/events"
	"freshet/internal/kafka"
)

// Table is the codec of the group's table, for its views.
var Table = kafka.Codec[events.DirectoryRow, *events.DirectoryRow]{}

// Graph declares the group.
func Graph(names freshet.Names) *goka.GroupGraph {
	const group = freshet.DirectoryGroup
	return goka.DefineGroup(goka.Group(names.Group(group)),
		kafka.Input(names.Topic(freshet.Registrations), names, group, registered),
		kafka.Input(names.Topic(freshet.Profiles), names, group, profiled),
		kafka.Loop(names, group, numbered),
		goka.Persist(Table),
		kafka.DeadLetters(names),
	)
}

// New makes a processor for the group. A processor runs once; a supervisor makes another one after a failure.
func New(brokers []string, names freshet.Names, opts ...goka.ProcessorOption) (*goka.Processor, error) {
	p, err := goka.NewProcessor(brokers, Graph(names), opts...)
	if err != nil {
		return nil, fmt.Errorf("make the processor of %s: %w", names.Group(freshet.DirectoryGroup), err)
	}
	return p, nil
}

func registered(ctx goka.Context, r *events.Registration) error {
	row, id, err := rowOf(ctx)
	if err != nil {
		return err
	}
	next := register(row, id, freshet.NumberAt(ctx.Partition(), ctx.Offset()), r)
	set(ctx, row, next)
	// Always, also when the row says all this already: a crash may have kept the row and lost the message.
	ctx.Loopback(freshet.NumberKey(freshet.Number(next.GetNumber())), &events.DirectoryLoop{Id: string(id)})
	return nil
}

func profiled(ctx goka.Context, p *events.Profile) error {
	row, _, err := rowOf(ctx)
	if err != nil {
		return err
	}
	next, err := update(row, ctx.Partition(), ctx.Offset(), p)
	if err != nil {
		return kafka.Poison(err)
	}
	set(ctx, row, next)
	return nil
}

func numbered(ctx goka.Context, m *events.DirectoryLoop) error {
	if _, err := freshet.ParseAccountID(m.GetId()); err != nil {
		return kafka.Poison(fmt.Errorf("the id of %s: %w", ctx.Key(), err))
	}
	row, err := valueOf(ctx)
	if err != nil {
		return err
	}
	set(ctx, row, &events.DirectoryRow{Id: m.GetId()})
	return nil
}

// rowOf is the row of the message's key, which has to be an account id: any other could be the key of a number's row.
func rowOf(ctx goka.Context) (*events.DirectoryRow, freshet.AccountID, error) {
	id, err := freshet.ParseAccountID(ctx.Key())
	if err != nil {
		return nil, "", kafka.Poison(fmt.Errorf("the key %q: %w", ctx.Key(), err))
	}
	row, err := valueOf(ctx)
	return row, id, err
}

var errRow = errors.New("the row in the table cannot be read; rebuild the group's table")

func valueOf(ctx goka.Context) (*events.DirectoryRow, error) {
	switch row := ctx.Value().(type) {
	case nil:
		return nil, nil
	case *events.DirectoryRow:
		return row, nil
	case *kafka.Invalid:
		return nil, kafka.Poison(fmt.Errorf("row %q: %w: %w", ctx.Key(), errRow, row.Err))
	default:
		return nil, fmt.Errorf("row %q: the table's codec made a %T", ctx.Key(), row)
	}
}

// set writes the row if it has changed. The local table holds only what Kafka has acknowledged, so an equal row needs
// no second write.
func set(ctx goka.Context, old, row *events.DirectoryRow) {
	if old == nil || !proto.Equal(old, row) {
		ctx.SetValue(row)
	}
}
