package feeds

import (
	"math/rand/v2"
	"testing"
)

// Several writers append to a log past its limit: one of them asks for it when it gets there, and one whenever it has
// grown by another quarter of the limit, as it does if nobody compacts it. Nobody else does.
func TestOneOfSeveralWritersAsksForALog(t *testing.T) {
	const limit, quarter, block = 400, 100, 5
	writers := make([]*Writer, 4)
	for i := range writers {
		writers[i] = NewWriter(WriterConfig{Layout: Layout{Zones: 4, FeedLength: 5}, LogLimit: limit})
	}
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 1))
		most := 1 + random.IntN(20) // entries of an append
		for length, asked := 0, 0; length < 6*limit; {
			appended := entrySize * (1 + random.IntN(most))
			before := length
			length += appended
			want := 0
			for past := limit; past < length; past += quarter {
				if past >= before {
					want = 1
				}
			}
			w := writers[random.IntN(len(writers))]
			log := AppendLog{Block: block, Entries: make([]byte, appended), Length: int64(length)}
			w.finish(t.Context(), Flushed{Logs: []AppendLog{log}})
			got := len(w.work)
			if got != want {
				t.Fatalf("seed %d: %d bytes behind %d: %d ask for the log, want %d", seed, appended, before, got, want)
			}
			if asked += got; got > 0 {
				w.long.Delete(<-w.work) // a compactor that fails
			}
			if length > limit && asked == 0 {
				t.Fatalf("seed %d: nobody has asked for a log of %d bytes", seed, length)
			}
		}
	}
}

// A limit that is not a multiple of anything is a limit all the same.
func TestOutgrown(t *testing.T) {
	for _, tt := range []struct {
		length   int64
		appended int
		limit    int
		want     bool
	}{
		{400, 9, 400, false},
		{401, 1, 400, true},
		{409, 9, 400, true},
		{410, 9, 400, false},
		{500, 9, 400, false},
		{501, 9, 400, true},
		{900, 900, 400, true},
		{2, 1, 1, true},
		{3, 1, 1, true},
	} {
		if got := outgrown(tt.length, tt.appended, tt.limit); got != tt.want {
			t.Errorf("%d bytes, %d of them new, and a limit of %d: %t, want %t", tt.length, tt.appended, tt.limit, got, tt.want)
		}
	}
}
