package views

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"freshet"
)

func rowOfVersion(v uint64) func() (*freshet.Following, error) {
	return func() (*freshet.Following, error) { return &freshet.Following{Version: v}, nil }
}

func mustGet(
	t *testing.T, c *rowCache[*freshet.Following], key string, load func() (*freshet.Following, error),
) *freshet.Following {
	t.Helper()
	row, err := c.get(key, load)
	if err != nil {
		t.Fatal(err)
	}
	return row
}

func TestRowCacheKeepsRows(t *testing.T) {
	c := newRowCache(1000, costOfRow)
	never := func() (*freshet.Following, error) { return nil, errors.New("loaded again") }
	first := mustGet(t, c, "1", rowOfVersion(1))
	if again := mustGet(t, c, "1", never); again != first {
		t.Errorf("got %+v, want the row that was loaded", again)
	}
	c.invalidate("1")
	if row := mustGet(t, c, "1", rowOfVersion(2)); row.Version != 2 {
		t.Errorf("after a change: version %d, want 2", row.Version)
	}
	mustGet(t, c, "none", func() (*freshet.Following, error) { return nil, nil })
	if row := mustGet(t, c, "none", never); row != nil {
		t.Errorf("an account without a row: %+v", row)
	}
}

// A row that changes while it is being loaded must not stay: nothing would ever replace the older one.
func TestRowCacheForgetsWhatChangedMeanwhile(t *testing.T) {
	c := newRowCache(1000, costOfRow)
	row := mustGet(t, c, "1", func() (*freshet.Following, error) {
		c.invalidate("1")
		return &freshet.Following{Version: 1}, nil
	})
	if row.Version != 1 {
		t.Errorf("the loader's own answer: version %d", row.Version)
	}
	if row := mustGet(t, c, "1", rowOfVersion(2)); row.Version != 2 {
		t.Errorf("afterwards: version %d, want 2", row.Version)
	}
}

func TestRowCacheKeepsNoErrors(t *testing.T) {
	c := newRowCache(1000, costOfRow)
	failed := errors.New("the disk is gone")
	if _, err := c.get("1", func() (*freshet.Following, error) { return nil, failed }); !errors.Is(err, failed) {
		t.Errorf("got %v", err)
	}
	if row := mustGet(t, c, "1", rowOfVersion(2)); row.Version != 2 {
		t.Errorf("afterwards: %+v", row)
	}
}

func TestRowCacheIsBounded(t *testing.T) {
	const limit = 1000
	c := newRowCache(limit, costOfRow)
	hot := &freshet.Following{}
	for i := range 500 {
		mustGet(t, c, "hot", func() (*freshet.Following, error) { return hot, nil })
		mustGet(t, c, fmt.Sprint(i), func() (*freshet.Following, error) {
			return &freshet.Following{Relations: make([]freshet.Relation, 50)}, nil
		})
		if c.held > limit {
			t.Fatalf("after %d rows it holds %d, more than %d", i, c.held, limit)
		}
	}
	if row := mustGet(t, c, "hot", rowOfVersion(2)); row != hot {
		t.Error("the row that is always in use was forgotten")
	}
	held := 0
	for e := c.used.Front(); e != nil; e = e.Next() {
		held += e.Value.(*cachedRow[*freshet.Following]).cost
	}
	if held != c.held || c.used.Len() != len(c.byKey) {
		t.Errorf("it counts %d, and holds %d in %d entries for %d keys", c.held, held, c.used.Len(), len(c.byKey))
	}
}

// TestRowCacheUnderChange lets readers and changes race: a reader that begins after the cache was told of a change
// never sees an older row.
func TestRowCacheUnderChange(t *testing.T) {
	c := newRowCache(1000, costOfRow)
	var (
		stored, told atomic.Uint64
		wg           sync.WaitGroup
	)
	for range 4 {
		wg.Go(func() {
			for range 5000 {
				before := told.Load()
				row, err := c.get("1", func() (*freshet.Following, error) {
					return &freshet.Following{Version: stored.Load()}, nil
				})
				if err != nil || row.Version < before {
					t.Errorf("got version %d, %v; the cache had been told of %d", row.Version, err, before)
					return
				}
			}
		})
	}
	wg.Go(func() {
		for range 5000 {
			version := stored.Add(1)
			c.invalidate("1")
			told.Store(version)
		}
	})
	wg.Wait()
}
