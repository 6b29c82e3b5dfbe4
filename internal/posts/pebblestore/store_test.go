package pebblestore

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"freshet"
	"freshet/internal/posts"
	"freshet/internal/posts/poststest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t testing.TB, dir string, o Options) *Store {
	t.Helper()
	s, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStore(t *testing.T) {
	poststest.Run(t, func(t *testing.T) posts.Database { return open(t, t.TempDir(), Options{}) })
}

func TestStoreWithSync(t *testing.T) {
	poststest.Run(t, func(t *testing.T) posts.Database { return open(t, "posts", Options{Sync: true, FS: vfs.NewMem()}) })
}

func created(id freshet.PostID, offset int64) posts.Event {
	return posts.Event{Offset: offset, PostEvent: freshet.PostEvent{Kind: freshet.PostCreated, Post: freshet.Post{
		ID: id, Author: 5, Text: "text", Visibility: freshet.Public, CreatedAt: time.UnixMilli(1772366400000).UTC(),
	}}}
}

func TestReopen(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	if err := s.Apply(t.Context(), []posts.Event{created(9, 3)}); err != nil {
		t.Fatal(err)
	}
	if err := s.SetProgress(t.Context(), 2, posts.Progress{Offset: 4}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, Options{})
	defer closeStore(t, s)
	page, err := s.ByAuthor(t.Context(), 5, 0, 10)
	if err != nil || len(page) != 1 || page[0] != created(9, 3).Post {
		t.Errorf("posts: got %+v, %v", page, err)
	}
	p, err := s.Progress(t.Context())
	if err != nil || p[2].Offset != 4 {
		t.Errorf("progress: got %v, %v", p, err)
	}
}

// What a killed process leaves is the state of its files at that moment, which a copy shows.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	defer closeStore(t, s)
	for i := range 20 {
		id := freshet.PostID(i + 1)
		if err := s.Apply(t.Context(), []posts.Event{created(id, int64(i))}); err != nil {
			t.Fatal(err)
		}
		left := t.TempDir()
		if err := os.CopyFS(left, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		after := open(t, left, Options{})
		if found, err := after.Posts(t.Context(), []freshet.PostID{id}); err != nil || len(found) != 1 {
			t.Errorf("post %s after the kill: got %v, %v", id, found, err)
		}
		closeStore(t, after)
	}
}

// Without Sync a power failure may take the end, at any moment also in the middle of a change of logs; the store opens
// all the same, and its progress is not ahead of its posts.
func TestPowerFailureWithoutSync(t *testing.T) {
	disk := vfs.NewCrashableMem()
	s := open(t, "posts", Options{FS: disk})
	defer closeStore(t, s)
	text := strings.Repeat("long ", 4000)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 800 {
		e := created(freshet.PostID(i+1), int64(i))
		e.Post.Text = text
		if err := s.Apply(t.Context(), []posts.Event{e}); err != nil {
			t.Fatal(err)
		}
		if err := s.SetProgress(t.Context(), 0, posts.Progress{Offset: int64(i) + 1}); err != nil {
			t.Fatal(err)
		}
		if i%50 != 0 {
			continue
		}
		after := open(t, "posts", Options{FS: disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rng})})
		p, err := after.Progress(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for offset := p[0].Offset; offset > 0; offset -= 37 {
			found, err := after.Posts(t.Context(), []freshet.PostID{freshet.PostID(offset)})
			if err != nil || len(found) != 1 {
				t.Fatalf("progress %d, and the post at offset %d: got %v, %v", p[0].Offset, offset-1, found, err)
			}
		}
		closeStore(t, after)
	}
}

// With Sync, what a method answered for outlives a power failure, whatever else the disk kept.
func TestPowerFailure(t *testing.T) {
	disk := vfs.NewCrashableMem()
	s := open(t, "posts", Options{Sync: true, FS: disk})
	defer closeStore(t, s)
	for i := range 20 {
		id := freshet.PostID(i + 1)
		if err := s.Apply(t.Context(), []posts.Event{created(id, int64(i))}); err != nil {
			t.Fatal(err)
		}
		if err := s.SetProgress(t.Context(), 0, posts.Progress{Offset: int64(i) + 1}); err != nil {
			t.Fatal(err)
		}
		after := open(t, "posts", Options{FS: disk.CrashClone(vfs.CrashCloneCfg{})})
		p, err := after.Progress(t.Context())
		if err != nil || p[0].Offset != int64(i)+1 {
			t.Errorf("progress after the failure: got %v, %v, want %d", p, err, i+1)
		}
		if found, err := after.Posts(t.Context(), []freshet.PostID{id}); err != nil || len(found) != 1 {
			t.Errorf("post %s after the failure: got %v, %v", id, found, err)
		}
		closeStore(t, after)
	}
}

func TestCorruptValue(t *testing.T) {
	post := func(s *Store) error { _, err := s.Posts(context.Background(), []freshet.PostID{9}); return err }
	tests := []struct {
		name string
		key  []byte
		read func(s *Store) error
	}{
		{"post", postKey(9), post},
		{"post of an author", postKey(9), func(s *Store) error {
			_, err := s.ByAuthor(context.Background(), 5, 0, 10)
			return err
		}},
		{"post that is written again", postKey(9), func(s *Store) error {
			return s.Apply(context.Background(), []posts.Event{created(9, 4)})
		}},
		{"follower", followerKey(5, 6), func(s *Store) error {
			_, err := s.Followers(context.Background(), 5, 0, 10)
			return err
		}},
		{"progress", progressKey(1), func(s *Store) error { _, err := s.Progress(context.Background()); return err }},
	}
	for _, test := range tests {
		overflow := "\x01" + strings.Repeat("\xff", 11)
		for _, value := range []string{"", "\x02", "\x01", "\x01\xff\xff", overflow} {
			t.Run(fmt.Sprintf("%s %x", test.name, value), func(t *testing.T) {
				s := open(t, "posts", Options{FS: vfs.NewMem()})
				defer closeStore(t, s)
				if err := s.Apply(t.Context(), []posts.Event{created(9, 3)}); err != nil {
					t.Fatal(err)
				}
				if err := s.db.Set(test.key, []byte(value), pebble.NoSync); err != nil {
					t.Fatal(err)
				}
				err := test.read(s)
				if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), hex.EncodeToString(test.key)) {
					t.Errorf("got %v, want an error that wraps ErrCorrupt and names the key %x", err, test.key)
				}
			})
		}
	}
}

// A value that an earlier build wrote reads as it did then. Add a case for each new version; change none.
func TestValuesOfAllVersions(t *testing.T) {
	const v1 = "01" + "05" + "06" + "10" + "10" + "01" + "80a8a8949567" + "82a8a8949567" + "00" + "04" + "06" +
		"7075626c6963" + "74657874"
	value, err := hex.DecodeString(v1)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeRecord(value)
	if err != nil {
		t.Fatal(err)
	}
	want := record{created: 3, texted: 8, edited: 8, deleted: never, post: freshet.Post{
		Author: 5, Text: "text", ReplyTo: 4, Visibility: freshet.Public,
		CreatedAt: time.UnixMilli(1772366400000).UTC(), EditedAt: time.UnixMilli(1772366400001).UTC(),
	}}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if again, err := want.encode(); err != nil || hex.EncodeToString(again) != v1 {
		t.Errorf("written again: got %x, %v, want %s", again, err, v1)
	}
}

func FuzzDecodeRecord(f *testing.F) {
	r := newRecord()
	r.post.Visibility, r.post.Text = freshet.Public, "text"
	seed, err := r.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, value []byte) {
		r, err := decodeRecord(value)
		if err != nil {
			return
		}
		again, err := r.encode()
		if err != nil {
			t.Fatal(err)
		}
		if back, err := decodeRecord(again); err != nil || back != r {
			t.Fatalf("%+v became %+v, %v", r, back, err)
		}
	})
}

func BenchmarkApply(b *testing.B) {
	for _, size := range []int{1, 100} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			s := open(b, b.TempDir(), Options{})
			defer closeStore(b, s)
			var offset int64
			for b.Loop() {
				batch := make([]posts.Event, size)
				for i := range batch {
					offset++
					batch[i] = created(freshet.PostID(offset), offset)
				}
				if err := s.Apply(b.Context(), batch); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(offset)/b.Elapsed().Seconds(), "posts/s")
		})
	}
}

func closeStore(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}
