package fanout

import (
	"encoding/binary"
	"errors"
	"math"
	"reflect"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"freshet"
	"freshet/internal/events"
)

func roundTrip(t interface{ Fatalf(string, ...any) }, n *Node) *Node {
	data, err := proto.Marshal(EncodeNode(n))
	if err != nil {
		t.Fatalf("marshal: %v", err)
	}
	var row events.TreeNode
	if err := proto.Unmarshal(data, &row); err != nil {
		t.Fatalf("unmarshal: %v", err)
	}
	back, err := DecodeNode(&row)
	if err != nil {
		t.Fatalf("decode %+v: %v", n, err)
	}
	return back
}

func TestNodesComeBackAsTheyWere(t *testing.T) {
	if back := roundTrip(t, nil); !reflect.DeepEqual(back, &Node{}) {
		t.Errorf("no node came back as %+v", back)
	}
	rapid.Check(t, func(t *rapid.T) {
		n := &Node{
			Open:     rapid.Byte().Draw(t, "open"),
			Reported: rapid.Uint64().Draw(t, "reported"),
			Posts:    rapid.Uint64().Draw(t, "posts"),
			NextPost: rapid.Int64Min(0).Draw(t, "next post"),
		}
		n.Tier = Tier{
			Pull: rapid.Bool().Draw(t, "pull"), Ever: rapid.Bool().Draw(t, "ever"), Merged: rapid.Bool().Draw(t, "merged"),
		}
		for i := range n.Subtotals {
			n.Subtotals[i] = rapid.Uint64().Draw(t, "subtotal")
		}
		for _, post := range rapid.SliceOfN(rapid.Uint64Max(math.MaxInt64), 0, rememberedDeletes).Draw(t, "deleted") {
			n.Deleted = append(n.Deleted, freshet.PostID(post))
		}
		numbers := rapid.SliceOf(rapid.Uint64Max(math.MaxInt64)).Draw(t, "followers")
		for _, f := range append(numbers, 0, math.MaxInt64) {
			n = n.with(freshet.Number(f))
		}
		back := roundTrip(t, n)
		if !reflect.DeepEqual(back, n) {
			t.Fatalf("%+v came back as %+v", n, back)
		}
	})
}

func TestRowsThatNoNodeCanBeAreRefused(t *testing.T) {
	for name, row := range map[string]*events.TreeNode{
		"a ninth child":         {Open: 256},
		"seven subtotals":       {Subtotals: make([]uint64, 7)},
		"nine subtotals":        {Subtotals: make([]uint64, 9)},
		"a negative offset":     {NextPost: -1},
		"a varint cut short":    {Followers: []byte{1, 0x80}},
		"a varint too long":     {Followers: binary.AppendUvarint([]byte{0xff, 0xff}, math.MaxUint64)},
		"the same one twice":    {Followers: []byte{5, 0}},
		"zero twice":            {Followers: []byte{0, 0}},
		"a number past 2^63-1":  {Followers: binary.AppendUvarint(nil, 1<<63)},
		"a sum past 2^63-1":     {Followers: binary.AppendUvarint([]byte{1}, math.MaxInt64)},
		"a sum around 2^64":     {Followers: binary.AppendUvarint([]byte{1}, math.MaxUint64)},
		"an eleven-byte varint": {Followers: []byte{128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 1}},
	} {
		if n, err := DecodeNode(row); !errors.Is(err, ErrNode) || n != nil {
			t.Errorf("%s: %+v, %v", name, n, err)
		}
	}
}

func FuzzDecodeNode(f *testing.F) {
	f.Add([]byte{}, "7/3/5")
	data, err := proto.Marshal(EncodeNode(&Node{
		Followers: []freshet.Number{0, 5, 900, math.MaxInt64}, Open: 3, Subtotals: [Children]uint64{1, 2}, NextPost: 8,
	}))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data, "7")
	f.Fuzz(func(t *testing.T, data []byte, key string) {
		at, err := ParseAddress(key)
		if err == nil && at.Key() != key {
			t.Fatalf("key %q came back as %q", key, at.Key())
		}
		var row events.TreeNode
		if proto.Unmarshal(data, &row) != nil {
			return
		}
		n, err := DecodeNode(&row)
		if err != nil {
			return
		}
		if back := roundTrip(t, n); !reflect.DeepEqual(back, n) {
			t.Fatalf("%+v came back as %+v", n, back)
		}
		tree := Tree{PageSize: 2}
		tree.Deliver(at, n, 1)
		n, _ = tree.Follower(at, n, State{Follower: 5, Follows: true})
		n, _ = tree.Subtotal(at, n, 1, math.MaxUint64)
		n, _ = tree.Follower(at, n, State{Follower: 5})
		tree.Restate(at, n, false)
	})
}
