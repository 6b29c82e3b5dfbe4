package fanout

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"freshet"
	"freshet/internal/events"
)

// fullPage is a page of followers whose numbers are about a thousand apart.
func fullPage() *Node {
	n := &Node{}
	for f := range freshet.Number(DefaultPageSize) {
		n.Followers = append(n.Followers, 3<<40|f*977)
	}
	return n
}

func BenchmarkDeliver(b *testing.B) {
	n := fullPage()
	b.ReportAllocs()
	for b.Loop() {
		Tree{}.Deliver(root, n, 1)
	}
	b.ReportMetric(float64(DefaultPageSize)*float64(b.N)/b.Elapsed().Seconds(), "followers/s")
}

func BenchmarkDeliverToEightChildren(b *testing.B) {
	n := fullPage()
	n.Open = 0xff
	b.ReportAllocs()
	for b.Loop() {
		Tree{}.Deliver(root, n, 1)
	}
}

func BenchmarkAddToAlmostFullPage(b *testing.B) {
	n := fullPage()
	n.Followers = n.Followers[1:]
	b.ReportAllocs()
	for b.Loop() {
		Tree{}.Follower(root, n, yes(1, 1))
	}
}

func BenchmarkAddToFullPage(b *testing.B) {
	n := fullPage()
	b.ReportAllocs()
	for b.Loop() {
		Tree{}.Follower(root, n, yes(1, 1))
	}
}

func BenchmarkPost(b *testing.B) {
	n := fullPage()
	b.ReportAllocs()
	for b.Loop() {
		Tree{}.Post(author, n, freshet.PostEvent{Kind: freshet.PostCreated}, 1)
	}
}

func BenchmarkDecodeFullPage(b *testing.B) {
	data, err := proto.Marshal(EncodeNode(fullPage()))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		var row events.TreeNode
		if err := proto.Unmarshal(data, &row); err != nil {
			b.Fatal(err)
		}
		if _, err := DecodeNode(&row); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(data))/DefaultPageSize, "B/follower")
}

func BenchmarkEncodeFullPage(b *testing.B) {
	n := fullPage()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := proto.Marshal(EncodeNode(n)); err != nil {
			b.Fatal(err)
		}
	}
}
