package feedstest

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"strconv"
	"testing"
	"time"

	"freshet"
	"freshet/internal/feeds"
)

// Compare runs the same random operations on two empty Conns of one layout and fails at the first answer in which they
// differ; now and then, and at the end, it compares all that can be read. pass, if not nil, lets time go by on both, so
// that bodies and counters expire.
func Compare(t *testing.T, seed uint64, steps int, layout feeds.Layout, a, b feeds.Conn, pass func(time.Duration)) {
	t.Helper()
	c := &comparison{T: t, rng: rand.New(rand.NewPCG(seed, 1)), layout: layout, a: a, b: b}
	t.Logf("seed %d", seed)
	for step := range steps {
		c.step = step
		ops := []feeds.Op{c.draw()}
		for c.rng.IntN(3) == 0 {
			ops = append(ops, c.draw())
		}
		switch {
		case c.rng.IntN(8) == 0:
			ops = c.bodies()
		case step > 1000 && c.rng.IntN(200) == 0: // not at once: nobody's time goes by in Redis, and tombstones stay
			ops = c.flush()
		}
		c.both(ops...)
		switch {
		case step%500 == 499 || step == steps-1:
			c.all()
		case pass != nil && c.rng.IntN(200) == 0:
			pass(time.Duration(1+c.rng.IntN(60)) * time.Hour)
		}
	}
	for name, count := range c.refused {
		if count[0] == 0 || count[1] == 0 {
			t.Errorf("%s: %d times refused, %d times done: both have to occur", name, count[0], count[1])
		}
	}
}

type comparison struct {
	*testing.T
	rng    *rand.Rand
	layout feeds.Layout
	a, b   feeds.Conn
	step   int
	// What the operations so far have shown, for those to come.
	counters    map[string]int64
	generations []string
	logs, boxes [][]byte
	refused     map[string]*[2]int
}

// bodies makes a few operations on bodies alone, which a Conn may put together.
func (c *comparison) bodies() (ops []feeds.Op) {
	write := c.rng.IntN(2) == 0
	for range 2 + c.rng.IntN(2*bodies) {
		id := freshet.PostID(1 + c.rng.IntN(bodies))
		if !write {
			ops = append(ops, &feeds.ReadBody{Post: id})
			continue
		}
		put := c.putBody(id)
		put.Replace = put.Replace && c.rng.IntN(10) == 0
		ops = append(ops, put)
	}
	return ops
}

func (c *comparison) putBody(id freshet.PostID) *feeds.PutBody {
	return &feeds.PutBody{
		Post: id, Token: c.token(c.layout.OfPost(id)), Offset: int64(c.rng.IntN(20)), Body: c.bytes(12),
		Replace: c.rng.IntN(3) == 0,
	}
}

const (
	blocks  = 3
	authors = 3
	bodies  = 4
)

var writers = []string{"w1", "w2"}

// draw makes an operation from a small world, and mostly from what is there, so that conditions hold as often as not.
func (c *comparison) draw() feeds.Op {
	zone := feeds.Zone(c.rng.IntN(c.layout.Zones))
	writer := writers[c.rng.IntN(len(writers))]
	number, author := uint64(c.rng.IntN(blocks)), freshet.Number(c.rng.IntN(authors))
	id := freshet.PostID(1 + c.rng.IntN(bodies))
	slot := byte(c.rng.IntN(4))
	switch c.rng.IntN(18) {
	case 0:
		return &feeds.ReadZone{Zone: zone}
	case 1:
		known := feeds.Known{Token: c.token(zone), Counter: c.counters[counterKey(zone, writer)] + int64(c.rng.IntN(3)) - 1}
		return &feeds.Open{Zone: zone, Writer: writer, Known: known}
	case 2, 3:
		return &feeds.Advance{
			Zone: zone, Writer: writer, Token: c.token(zone),
			Counter: c.counters[counterKey(zone, writer)] - int64(c.rng.IntN(8)/7), Marks: c.inputs(),
		}
	case 4:
		if c.rng.IntN(3) > 0 {
			return &feeds.ReadZone{Zone: zone}
		}
		return &feeds.Recover{
			Zone: zone, Writer: writer, Counter: c.counters[counterKey(zone, writer)] - int64(c.rng.IntN(8)/7),
			Old: c.token(zone), New: "t" + strconv.Itoa(c.step), Ends: c.inputs(), Marks: c.inputs(),
		}
	case 5, 6:
		return c.putBody(id)
	case 7:
		if c.rng.IntN(4) > 0 {
			return &feeds.ReadBody{Post: id}
		}
		return &feeds.PutTombstone{Post: id}
	case 8:
		return &feeds.ReadBody{Post: id}
	case 9:
		return &feeds.AppendOutbox{Author: author, IDs: c.bytes(24)}
	case 10:
		return &feeds.ReadOutbox{Author: author}
	case 11:
		if c.rng.IntN(6) == 0 {
			return &feeds.DropOutbox{Author: author, Token: c.token(c.layout.OfAuthor(author))}
		}
		return &feeds.RewriteOutbox{
			Author: author, Token: c.token(c.layout.OfAuthor(author)), Old: c.recent(c.boxes), New: c.marked(c.recent(c.boxes)),
		}
	case 12:
		return &feeds.AppendLog{Block: number, Entries: c.bytes(30)}
	case 13:
		return &feeds.ReadBlock{Block: number, Slot: feeds.AllSlots}
	case 14:
		return &feeds.ReadBlock{Block: number, Slot: int(slot)}
	case 15:
		return &feeds.SwapFeed{
			Block: number, Slot: slot, Token: c.token(c.layout.OfBlock(number)), Generation: c.generation(),
			Next: c.next(), Value: c.value(),
		}
	case 16:
		if c.rng.IntN(3) == 0 {
			return &feeds.DropFeeds{Block: number}
		}
		return &feeds.UnloadOutbox{Author: author}
	}
	var next map[byte][]byte
	if c.rng.IntN(4) > 0 {
		next = map[byte][]byte{}
	}
	for next != nil && c.rng.IntN(3) > 0 {
		next[byte(c.rng.IntN(4))] = c.bytes(20)
	}
	return &feeds.Compact{
		Block: number, Token: c.token(c.layout.OfBlock(number)), Generation: c.generation(), Next: c.next(),
		Log: c.recent(c.logs), Feeds: next,
	}
}

// flush is what only writes, and much of it.
func (c *comparison) flush() []feeds.Op {
	var ops []feeds.Op
	for len(ops) < 150 {
		switch op := c.draw().(type) {
		case *feeds.AppendLog, *feeds.AppendOutbox, *feeds.PutBody, *feeds.PutTombstone, *feeds.Advance:
			ops = append(ops, op)
		}
	}
	return ops
}

// token is the zone's, now and then another one.
func (c *comparison) token(zone feeds.Zone) string {
	read := &feeds.ReadZone{Zone: zone}
	if err := c.b.Do(context.Background(), read); err != nil {
		c.Fatal(err)
	}
	if c.rng.IntN(10) == 0 {
		return "t" + strconv.Itoa(c.rng.IntN(c.step+1))
	}
	return read.State.Token
}

func (c *comparison) inputs() map[feeds.Input]int64 {
	topics := []string{feeds.InputPosts, feeds.InputReplays, feeds.InputLoop}
	inputs := map[feeds.Input]int64{}
	for c.rng.IntN(3) > 0 {
		input := feeds.Input{Topic: topics[c.rng.IntN(3)], Partition: int32(c.rng.IntN(2))}
		inputs[input] = int64(c.rng.IntN(1000))
	}
	return inputs
}

func (c *comparison) bytes(most int) []byte {
	b := make([]byte, 1+c.rng.IntN(most))
	for i := range b {
		b[i] = byte(c.rng.IntN(256))
	}
	return b
}

func (c *comparison) value() []byte {
	if c.rng.IntN(4) == 0 {
		return nil
	}
	return c.bytes(20)
}

func (c *comparison) next() string { return strconv.FormatUint(c.rng.Uint64(), 16) }

func (c *comparison) generation() string {
	if len(c.generations) == 0 || c.rng.IntN(10) == 0 {
		return ""
	}
	return c.generations[len(c.generations)-1-c.rng.IntN(min(3, len(c.generations)))]
}

// recent is a value that was read a moment ago, sometimes with a byte changed.
func (c *comparison) recent(values [][]byte) []byte {
	if len(values) == 0 || c.rng.IntN(6) == 0 {
		return nil
	}
	v := bytes.Clone(values[len(values)-1-c.rng.IntN(min(3, len(values)))])
	v = v[:min(len(v), 200)]
	if len(v) > 0 && c.rng.IntN(8) == 0 {
		v[c.rng.IntN(len(v))]++
	}
	return v
}

// marked is an outbox's value, now and then with the mark of a loaded one.
func (c *comparison) marked(value []byte) []byte {
	if c.rng.IntN(3) > 0 {
		return value
	}
	return append(bytes.Repeat([]byte{0xff}, 8), value...)
}

// both runs ops on both and compares.
func (c *comparison) both(ops ...feeds.Op) {
	c.Helper()
	twins := make([]feeds.Op, len(ops))
	for i, op := range ops {
		twins[i] = clone(op)
	}
	if err := c.a.Do(context.Background(), ops...); err != nil {
		c.Fatalf("step %d: first: %v", c.step, err)
	}
	if err := c.b.Do(context.Background(), twins...); err != nil {
		c.Fatalf("step %d: second: %v", c.step, err)
	}
	for i, op := range ops {
		if first, second := show(op), show(twins[i]); first != second {
			c.Fatalf("step %d: %T\n first %s\nsecond %s", c.step, op, first, second)
		}
		c.learn(op)
	}
}

func (c *comparison) learn(op feeds.Op) {
	switch op := op.(type) {
	case *feeds.Open:
		c.count(op.Zone, op.Writer, op.Counter)
	case *feeds.Advance:
		c.verdict("advance", op.OK)
		if op.OK {
			c.count(op.Zone, op.Writer, op.Counter+1)
		}
	case *feeds.Recover:
		c.verdict("recover", op.OK)
		if op.OK {
			c.count(op.Zone, op.Writer, 1)
		}
	case *feeds.PutBody:
		c.verdict("put body", op.OK)
	case *feeds.ReadOutbox:
		c.boxes = append(c.boxes, op.Value)
	case *feeds.RewriteOutbox:
		c.verdict("rewrite outbox", op.OK)
	case *feeds.DropOutbox:
		c.verdict("drop outbox", op.OK)
	case *feeds.UnloadOutbox:
		c.verdict("unload outbox", op.OK)
	case *feeds.ReadBlock:
		c.logs, c.generations = append(c.logs, op.Log), append(c.generations, op.Generation)
	case *feeds.SwapFeed:
		c.verdict("swap feed", op.OK)
		if op.OK {
			c.generations = append(c.generations, op.Next)
		}
	case *feeds.Compact:
		c.verdict("compact", op.OK)
	}
}

func counterKey(zone feeds.Zone, writer string) string { return fmt.Sprint(zone, writer) }

func (c *comparison) count(zone feeds.Zone, writer string, n int64) {
	if c.counters == nil {
		c.counters = map[string]int64{}
	}
	c.counters[counterKey(zone, writer)] = n
}

func (c *comparison) verdict(name string, done bool) {
	if c.refused == nil {
		c.refused = map[string]*[2]int{}
	}
	if c.refused[name] == nil {
		c.refused[name] = &[2]int{}
	}
	if done {
		c.refused[name][1]++
	} else {
		c.refused[name][0]++
	}
}

// all reads everything there is.
func (c *comparison) all() {
	c.Helper()
	for zone := range c.layout.Zones {
		c.both(&feeds.Open{Zone: feeds.Zone(zone), Writer: "reader"})
	}
	for number := range uint64(blocks) {
		c.both(&feeds.ReadBlock{Block: number, Slot: feeds.AllSlots})
	}
	for author := range freshet.Number(authors) {
		c.both(&feeds.ReadOutbox{Author: author})
	}
	for id := range freshet.PostID(bodies) {
		c.both(&feeds.ReadBody{Post: id + 1})
	}
}

// clone copies the question of an operation.
func clone(op feeds.Op) feeds.Op {
	v := reflect.New(reflect.TypeOf(op).Elem())
	v.Elem().Set(reflect.ValueOf(op).Elem())
	if compact, ok := v.Interface().(*feeds.Compact); ok {
		compact.Feeds = maps.Clone(compact.Feeds)
	}
	return v.Interface().(feeds.Op)
}

// show prints an operation so that values that are absent and values that are empty look the same.
func show(op feeds.Op) string {
	v := reflect.ValueOf(op).Elem()
	var b bytes.Buffer
	for i := range v.NumField() {
		field := v.Field(i)
		if (field.Kind() == reflect.Map || field.Kind() == reflect.Slice) && field.Len() == 0 {
			continue
		}
		fmt.Fprintf(&b, "%s=%v ", v.Type().Field(i).Name, field)
	}
	return b.String()
}
