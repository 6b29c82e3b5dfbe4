package events

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"freshet"
)

// Records stay in Kafka for years, so the bytes of testdata are never written again: -update adds the fixtures that are
// missing and leaves the others alone. A field added to a message gets a further fixture, with a name of its own.
var update = flag.Bool("update", false, "write the fixtures that are missing")

// fixtures is what the bytes of testdata/<name>.bin mean. The part of a name before '-' is the message.
var fixtures = map[string]proto.Message{
	"Registration":       &Registration{At: 1764000000001, Replaces: proto.Uint64(7<<40 | 12)},
	"Registration-empty": &Registration{},
	"Registration-zero":  &Registration{At: 1764000000001, Replaces: proto.Uint64(0)}, // 0 is a number like any other

	"Profile":       &Profile{Number: 7<<40 | 12, Name: "Ada Łovelace", Closed: true, At: 1764000000002},
	"Profile-empty": &Profile{},

	"DirectoryLoop":       &DirectoryLoop{Id: "ada"},
	"DirectoryLoop-empty": &DirectoryLoop{},

	"DirectoryRow": &DirectoryRow{
		Id: "ada", Number: 7<<40 | 12, Name: "Ada Łovelace", CreatedAt: 1764000000001, Closed: true,
		NextRegistration: 13, NextProfile: 1 << 40,
	},
	"DirectoryRow-empty": &DirectoryRow{},

	"FollowEvent": &FollowEvent{
		Kind: FollowEvent_UNBLOCK, Target: 3<<40 | 5, At: 1764000000003, Targets: []uint64{0, 1, 3<<40 | 5},
	},
	"FollowEvent-empty": &FollowEvent{},

	"FollowingRow": &FollowingRow{
		Version: 9, Next: 813, Accounts: []uint64{0, 31, 7 << 40}, Versions: []int64{812, 7 << 40, 300},
		Flags: []byte{3, 1, 0}, AppliedAt: []uint64{9, 0, 4}, Muted: []uint64{31}, Blocked: []uint64{7 << 40, 1},
	},
	"FollowingRow-packed": &FollowingRow{Version: 9, Next: 813, Relations: []byte{
		4,                                                                                 // relations
		0, packedFollows | packedApplied | packedOffset | packedAppliedAt, 0xd8, 0x0c, 10, // offset 812, applied at 5
		31, packedFollows | packedApplied, // the same
		0x80, 0x01, packedFollows | packedAttempt | packedAppliedAt, 3, 9, // account 159, attempt 3, not applied
		1, packedOffset, 0xbf, 0x0c, // account 160, offset 12
	}},
	"FollowingRow-empty": &FollowingRow{},

	"FollowerState":       &FollowerState{Follower: 3<<40 | 5, Follows: true, Version: 812},
	"FollowerState-empty": &FollowerState{},

	"AppliedReport":       &AppliedReport{Followee: 7<<40 | 12, Held: true, Version: 812},
	"AppliedReport-empty": &AppliedReport{},

	"PostEvent": &PostEvent{
		Kind: PostEvent_DELETED, Id: 1<<62 | 5, Author: 7<<40 | 12, Text: "ça va? 🙂\n", ReplyTo: 1<<62 | 4,
		Visibility: PostEvent_FOLLOWERS, At: 1764000000004,
	},
	"PostEvent-saved": &PostEvent{
		Kind: PostEvent_CREATED, Id: 1<<62 | 5, Author: 7<<40 | 12, Text: "ça va? 🙂\n", At: 1764000000004, Saved: true,
	},
	"PostEvent-empty": &PostEvent{},

	"FanoutLoop-follower": &FanoutLoop{Message: &FanoutLoop_Follower{
		Follower: &FollowerState{Follower: 3<<40 | 5, Follows: true, Version: 812},
	}},
	"FanoutLoop-deliver":  &FanoutLoop{Message: &FanoutLoop_Deliver{Deliver: &Deliver{Post: 1<<62 | 5}}},
	"FanoutLoop-subtotal": &FanoutLoop{Message: &FanoutLoop_Subtotal{Subtotal: &Subtotal{Child: 7, Followers: 930}}},
	"FanoutLoop-turn":     &FanoutLoop{Message: &FanoutLoop_Turn{Turn: &Turn{}}},
	"FanoutLoop-empty":    &FanoutLoop{},

	"FollowingLoop":       &FollowingLoop{Message: &FollowingLoop_Turn{Turn: &Turn{}}},
	"FollowingLoop-empty": &FollowingLoop{},

	"Turn-empty": &Turn{},

	"Deliver":       &Deliver{Post: 1<<62 | 5},
	"Deliver-empty": &Deliver{},

	"Subtotal":       &Subtotal{Child: 7, Followers: 1 << 33},
	"Subtotal-empty": &Subtotal{},

	"TreeNode": &TreeNode{
		Followers: []byte{0, 1, 0x80, 0x01}, Open: 0x81, Subtotals: []uint64{930, 0, 0, 0, 0, 0, 0, 1 << 33},
		Reported: 1<<33 + 930, Posts: 17, NextPost: 4711,
	},
	"TreeNode-deleted": &TreeNode{Posts: 17, NextPost: 4711, Deleted: []uint64{1<<62 | 5, 1<<62 | 4}},
	"TreeNode-tier":    &TreeNode{NextPost: 1, Pull: true, EverPull: true, Merged: true},
	"TreeNode-empty":   &TreeNode{},

	"Stats":       &Stats{Followers: 1 << 33, Posts: 17},
	"Stats-empty": &Stats{},

	"Tier":       &Tier{Pull: true, Ever: true},
	"Tier-empty": &Tier{},

	"Body": &Body{
		Author: 7<<40 | 12, Text: "ça va? 🙂\n", ReplyTo: 1<<62 | 4, Visibility: PostEvent_FOLLOWERS,
		EditedAt: 1764000000005,
	},
	"Body-empty": &Body{},

	"NodeStart":       &NodeStart{Host: "api-1", At: 1764000000006},
	"NodeStart-empty": &NodeStart{},
}

func message(name string) string {
	before, _, _ := strings.Cut(name, "-")
	return before
}

func TestFixtures(t *testing.T) {
	for name, want := range fixtures {
		t.Run(name, func(t *testing.T) {
			if got := string(want.ProtoReflect().Descriptor().Name()); got != message(name) {
				t.Fatalf("the fixture holds a %s", got)
			}
			path := filepath.Join("testdata", name+".bin")
			data, err := os.ReadFile(path)
			if os.IsNotExist(err) && *update {
				data, err = proto.MarshalOptions{Deterministic: true}.Marshal(want)
				if err != nil {
					t.Fatal(err)
				}
				if err = os.MkdirAll("testdata", 0o755); err == nil {
					err = os.WriteFile(path, data, 0o644)
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			got := want.ProtoReflect().New().Interface()
			if err := proto.Unmarshal(data, got); err != nil {
				t.Fatalf("decode %s: %v", path, err)
			}
			if !proto.Equal(got, want) {
				t.Errorf("%s decodes to\n%v\nwant\n%v", path, got, want)
			}
			if unknown := got.ProtoReflect().GetUnknown(); len(unknown) > 0 {
				t.Errorf("%s has fields that the message has not: %x", path, unknown)
			}
		})
	}
}

// TestRowFixturesAreRows: bytes that a later version must decode are a row to it, too.
func TestRowFixturesAreRows(t *testing.T) {
	for name, fixture := range fixtures {
		row, ok := fixture.(*FollowingRow)
		if !ok {
			continue
		}
		f, err := DecodeFollowing(row)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if name == "FollowingRow-packed" {
			want := []freshet.Relation{
				{Account: 0, Version: 812 << attemptBits, Follows: true, Applied: true, AppliedAt: 5},
				{Account: 31, Version: 812 << attemptBits, Follows: true, Applied: true, AppliedAt: 5},
				{Account: 159, Version: 812<<attemptBits | 3, Follows: true},
				{Account: 160, Version: 12 << attemptBits},
			}
			if !slices.Equal(f.Relations, want) {
				t.Errorf("%s: %+v, want %+v", name, f.Relations, want)
			}
		}
	}
}

// TestEveryFieldHasAFixture walks the file's messages: each has an empty fixture, and each of its fields is set in one.
func TestEveryFieldHasAFixture(t *testing.T) {
	messages := File_internal_events_events_proto.Messages()
	if messages.Len() == 0 {
		t.Fatal("the file has no messages")
	}
	for i := range messages.Len() {
		m := messages.Get(i)
		if _, ok := fixtures[string(m.Name())+"-empty"]; !ok {
			t.Errorf("%s: no fixture %s-empty", m.Name(), m.Name())
		}
		set := make(map[protoreflect.FieldNumber]bool)
		for name, fixture := range fixtures {
			if message(name) == string(m.Name()) {
				fixture.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
					set[f.Number()] = true
					return true
				})
			}
		}
		for j := range m.Fields().Len() {
			if f := m.Fields().Get(j); !set[f.Number()] {
				t.Errorf("%s: no fixture sets its field %s", m.Name(), f.Name())
			}
		}
	}
}

// TestEveryFileIsAFixture finds bytes whose meaning nobody checks.
func TestEveryFileIsAFixture(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "*.bin"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".bin")
		if _, ok := fixtures[name]; !ok {
			t.Errorf("%s: no fixture of this name", file)
		}
	}
}
