package bench

import (
	"bytes"
	"compress/gzip"
	"context"
	_ "embed"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"freshet"
	"freshet/emitters"
	"freshet/internal/pause"
)

// Opticks by Isaac Newton, 4th edition of 1730, as Project Gutenberg has transcribed it: in the public domain, and like
// posts in nothing but that people wrote it for people.
//
//go:embed opticks.txt.gz
var opticks []byte

// passages are texts as long as posts: 60 to 280 characters, cut where a sentence or a line ends.
func passages() []string {
	unzipped, err := gzip.NewReader(bytes.NewReader(opticks))
	if err != nil {
		panic(err) // it is part of the program
	}
	text, err := io.ReadAll(unzipped)
	if err != nil {
		panic(err)
	}
	var all []string
	rest := strings.Join(strings.Fields(string(text)), " ")
	for len(rest) > 400 {
		cut := 280
		if end := strings.LastIndex(rest[60:cut], ". "); end >= 0 {
			cut = 60 + end + 1
		} else if space := strings.LastIndex(rest[:cut], " "); space > 0 {
			cut = space
		}
		all = append(all, strings.ToValidUTF8(strings.TrimSpace(rest[:cut]), ""))
		rest = rest[cut:]
	}
	return all
}

// publisher writes posts into the log.
type publisher struct {
	emitters *emitters.Emitters
	close    func() error // may be called again
	minter   *freshet.Minter
	texts    []string
	rng      *rand.Rand
}

// lastNode is the node of a benchmark's post ids. Under its own prefix nobody else mints any.
const lastNode = freshet.Nodes - 1

func (b *bench) publisher() (*publisher, error) {
	writers, err := emitters.New(b.servers.kafka, b.servers.names, nil)
	if err != nil {
		return nil, err
	}
	minter, err := freshet.NewMinter(lastNode, time.Now)
	if err != nil {
		return nil, err
	}
	return &publisher{
		emitters: writers, close: sync.OnceValue(writers.Close), minter: minter, texts: passages(), rng: b.random(),
	}, nil
}

func (p *publisher) text() string { return p.texts[p.rng.IntN(len(p.texts))] }

// post writes a post of that author. It returns before Kafka has acknowledged it.
func (p *publisher) post(ctx context.Context, a author, done func(error)) error {
	id, err := p.minter.Mint(ctx)
	if err != nil {
		return err
	}
	event := freshet.PostEvent{Kind: freshet.PostCreated, Post: freshet.Post{
		ID: id, Author: a.number, Text: p.text(), Visibility: freshet.Public, CreatedAt: time.Now(),
	}}
	return p.emitters.PostAsync(ctx, event, func(_ emitters.Position, err error) { done(err) })
}

// publish writes posts of authors drawn at random; see publishOf.
func (b *bench) publish(
	ctx context.Context, p *publisher, authors []author, posts int, rate float64, stage string,
) (deliveries int, err error) {
	return b.publishOf(ctx, p, func(int) author { return authors[p.rng.IntN(len(authors))] }, posts, rate, stage)
}

// publishOf writes posts, each of the author that whose names, at a rate or, if that is 0, as fast as it goes, and
// waits until Kafka has acknowledged them. It answers how many deliveries they make.
func (b *bench) publishOf(
	ctx context.Context, p *publisher, whose func(i int) author, posts int, rate float64, stage string,
) (deliveries int, err error) {
	var writes sync.WaitGroup
	var failure atomic.Pointer[error]
	start := time.Now()
	for i := range posts {
		if i%100 == 0 {
			b.Progress(stage, i, posts)
		}
		if rate > 0 {
			if err := sleepUntil(ctx, start.Add(time.Duration(float64(i)/rate*float64(time.Second)))); err != nil {
				return deliveries, err
			}
		}
		a := whose(i)
		writes.Add(1)
		err := p.post(ctx, a, func(err error) {
			if err != nil {
				failure.CompareAndSwap(nil, &err)
			}
			writes.Done()
		})
		if err != nil {
			return deliveries, err
		}
		deliveries += len(a.followers)
	}
	writes.Wait()
	b.Progress(stage, posts, posts)
	if err := failure.Load(); err != nil {
		return deliveries, fmt.Errorf("publish: %w", *err)
	}
	return deliveries, nil
}

func sleepUntil(ctx context.Context, at time.Time) error { return pause.For(ctx, time.Until(at)) }
