package tables

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/IBM/sarama"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/lovoo/goka"
	gokastorage "github.com/lovoo/goka/storage"
	"github.com/syndtr/goleveldb/leveldb"
)

// instant acknowledges every record at once.
type instant struct{ offset int64 }

func (p *instant) Emit(topic, key string, value []byte) *goka.Promise {
	return p.EmitWithHeaders(topic, key, value, nil)
}

func (p *instant) EmitWithHeaders(string, string, []byte, goka.Headers) *goka.Promise {
	promise, finish := goka.NewPromiseWithFinisher()
	p.offset++
	finish(&sarama.ProducerMessage{Offset: p.offset}, nil)
	return promise
}

func (*instant) Close() error { return nil }

const (
	benchKeys  = 1_000_000
	benchValue = 200 // bytes
)

// BenchmarkSetAndAcknowledge writes rows of 200 bytes under random keys of a million, as a processor does: Set,
// produce, acknowledgement, SetOffset.
func BenchmarkSetAndAcknowledge(b *testing.B) {
	tables := openTables(b, b.TempDir(), vfs.Default)
	defer func() { must(b, tables.Close()) }()
	holder := tables.Processor("group", 1)
	p := holder.WrapProducer(&instant{})
	s := openStorage(b, holder.Builder, table)
	s.own.epoch = 0
	value := bytes.Repeat([]byte("v"), benchValue)
	for b.Loop() {
		key := fmt.Sprint(rand.IntN(benchKeys))
		must(b, s.Set(key, value))
		p.EmitWithHeaders(table, key, value, nil).ThenWithMessage(func(msg *sarama.ProducerMessage, err error) {
			if err == nil {
				err = s.SetOffset(msg.Offset)
			}
			must(b, err)
		})
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkRecovery reads a changelog of rows of 200 bytes into an empty table: Set and SetOffset.
func BenchmarkRecovery(b *testing.B) {
	builders := map[string]func(b *testing.B) (gokastorage.Storage, func()){
		"pebble": func(b *testing.B) (gokastorage.Storage, func()) {
			tables := openTables(b, b.TempDir(), vfs.Default)
			return openStorage(b, tables.View("view").Builder, table), func() { must(b, tables.Close()) }
		},
		"goka's leveldb": func(b *testing.B) (gokastorage.Storage, func()) {
			db, err := leveldb.OpenFile(b.TempDir(), nil)
			must(b, err)
			s, err := gokastorage.New(db)
			must(b, err)
			must(b, s.Open())
			return s, func() { must(b, s.Close()) }
		},
	}
	for name, build := range builders {
		b.Run(name, func(b *testing.B) {
			s, done := build(b)
			defer done()
			value := bytes.Repeat([]byte("v"), benchValue)
			var offset int64
			for b.Loop() {
				must(b, s.Set(fmt.Sprint(rand.IntN(benchKeys)), value))
				must(b, s.SetOffset(offset))
				offset++
			}
			must(b, s.MarkRecovered())
			b.ReportMetric(float64(offset)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

func BenchmarkGet(b *testing.B) {
	tables := openTables(b, b.TempDir(), vfs.Default)
	defer func() { must(b, tables.Close()) }()
	s := openStorage(b, tables.View("view").Builder, table)
	value := bytes.Repeat([]byte("v"), benchValue)
	for i := range 200_000 {
		must(b, s.Set(fmt.Sprint(i), value))
		must(b, s.SetOffset(int64(i)))
	}
	must(b, s.MarkRecovered())
	for b.Loop() {
		if v, err := s.Get(fmt.Sprint(rand.IntN(200_000))); err != nil || len(v) != benchValue {
			b.Fatal(len(v), err)
		}
	}
}
