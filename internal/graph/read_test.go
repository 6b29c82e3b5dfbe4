package graph

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"freshet"
)

// pairs is the graph as lines.
func pairs(g *Graph) []string {
	var list []string
	for place, edges := range g.followers() {
		for _, e := range edges {
			list = append(list, string(g.Accounts[place])+" "+string(g.Accounts[e.followee]))
		}
	}
	slices.Sort(list)
	return list
}

func packed(t *testing.T, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestRead(t *testing.T) {
	const text = "# a comment\n\nada bela\n  bela\tada \r\nada chidi\nada bela\n#" + "\n7 ada"
	want := []string{"7 ada", "ada bela", "ada chidi", "bela ada"}
	for name, file := range map[string][]byte{"plain": []byte(text), "gzip": packed(t, text)} {
		g, bad, err := Read(bytes.NewReader(file))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := pairs(g); !slices.Equal(got, want) || g.Repeated != 1 || bad.Count != 0 {
			t.Errorf("%s: got %v, %d repeated, bad %v; want %v, 1 repeated", name, got, g.Repeated, bad, want)
		}
		if want := []freshet.AccountID{"ada", "bela", "chidi", "7"}; !slices.Equal(g.Accounts, want) {
			t.Errorf("%s: accounts %v, want %v", name, g.Accounts, want)
		}
	}
}

func TestReadLeavesBadLinesOut(t *testing.T) {
	long := strings.Repeat("x", 300<<10)
	lines := []string{
		"ada bela",                // 1
		"ada ada",                 // 2
		"ada",                     // 3
		"ada bela chidi",          // 4
		"ada b/la",                // 5
		"ada#1 bela",              // 6
		long + " bela",            // 7
		"# " + long,               // 8, a comment may be long
		"ada " + long[:65],        // 9
		strings.Repeat(" ", 2000), // 10
		"bela ada",                // 11
	}
	want := []struct {
		number int
		reason error
	}{{2, errSelf}, {3, errFields}, {4, errFields}, {5, freshet.ErrAccountID}, {6, freshet.ErrAccountID},
		{7, errLong}, {9, freshet.ErrAccountID}, {10, errLong}}
	g, bad, err := Read(strings.NewReader(strings.Join(lines, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	if got := pairs(g); !slices.Equal(got, []string{"ada bela", "bela ada"}) {
		t.Errorf("got %v", got)
	}
	if bad.Count != len(want) || len(bad.First) != len(want) {
		t.Fatalf("bad lines %v, want %v", bad, want)
	}
	for i, w := range want {
		if got := bad.First[i]; got.Number != w.number || !errors.Is(got.Reason, w.reason) {
			t.Errorf("bad line %d: %v; want %d: %v", got.Number, got.Reason, w.number, w.reason)
		}
	}
	if len(g.Accounts) != 2 {
		t.Errorf("accounts %v: want none of a bad line", g.Accounts)
	}
}

func TestReadShowsTenBadLines(t *testing.T) {
	_, bad, err := Read(strings.NewReader("ada bela\n" + strings.Repeat("ada ada\n", 25)))
	if err != nil || bad.Count != 25 || len(bad.First) != shownBad {
		t.Errorf("got %d bad lines, %d shown, %v; want 25, %d", bad.Count, len(bad.First), err, shownBad)
	}
}

func TestReadRefusesWhatIsNoEdgeList(t *testing.T) {
	whole := packed(t, strings.Repeat("ada bela\n", 10_000))
	damaged := bytes.Clone(whole)
	damaged[len(damaged)/2] ^= 0xff
	for _, tt := range []struct {
		name string
		file []byte
		want error // nil: any
	}{
		{"empty", nil, ErrEmpty},
		{"one byte", []byte("a"), ErrEmpty},
		{"comments", []byte("# nothing\n\n"), ErrEmpty},
		{"bad lines", []byte("ada ada\n"), ErrEmpty},
		{"empty gzip", packed(t, ""), ErrEmpty},
		{"binary", []byte("ada bela\nada\x00bela\n"), ErrBinary},
		{"binary in gzip", packed(t, "ada bela\nada\x00bela\n"), ErrBinary},
		{"gzip cut off", whole[:len(whole)-10], io.ErrUnexpectedEOF},
		{"gzip's header alone", []byte{0x1f, 0x8b}, nil},
		{"gzip damaged", damaged, nil},
	} {
		_, _, err := Read(bytes.NewReader(tt.file))
		if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
	}
}
