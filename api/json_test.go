package api

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"freshet"
)

// standard is what encoding/json makes of a value.
func standard(t *testing.T, v any) string {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// FuzzString: a string is written as encoding/json writes it.
func FuzzString(f *testing.F) {
	var all []byte
	for i := range 256 {
		all = append(all, byte(i))
	}
	for _, s := range []string{
		"", "plain", "ü 🙂 \u2028 \u2029 \ufffd", string(all), "\xe2\x80", "\xed\xa0\x80", "a\xffb", `"\`, "<&>\x7f",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got, want := string(appendString(nil, s)), standard(t, s); got != want {
			t.Errorf("%q: %s, want %s", s, got, want)
		}
	})
}

func TestAppendPost(t *testing.T) {
	type fields struct {
		ID         string    `json:"id"`
		Author     string    `json:"author"`
		Text       string    `json:"text"`
		ReplyTo    string    `json:"reply_to,omitempty"`
		Visibility string    `json:"visibility"`
		CreatedAt  jsonTime  `json:"created_at"`
		EditedAt   *jsonTime `json:"edited_at,omitempty"`
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.FixedZone("", 3600))
	edited := jsonTime(at.Add(time.Hour))
	for _, tt := range []struct {
		post freshet.Post
		want fields
	}{
		{
			freshet.Post{ID: 7, Text: "a \"b\"\n🙂", Visibility: freshet.Public, CreatedAt: at},
			fields{"7", "ada", "a \"b\"\n🙂", "", "public", jsonTime(at), nil},
		},
		{
			freshet.Post{
				ID: 1<<63 - 1, Text: "x", ReplyTo: 9, Visibility: freshet.FollowersOnly, CreatedAt: at,
				EditedAt: at.Add(time.Hour),
			},
			fields{"9223372036854775807", "ada", "x", "9", "followers", jsonTime(at), &edited},
		},
	} {
		if got, want := string(appendPost(nil, &tt.post, "ada")), standard(t, tt.want); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
}

// FuzzObject: what is read in one go is what encoding/json reads, and what it refuses is not.
func FuzzObject(f *testing.F) {
	for _, s := range []string{
		`{}`, ` { } `, `{"a":"b"}`, `{"a":"b","c":"d\n"}`, `{"a":"b",}`, `{"a":"b"}x`, `{"a":"b","a":"c"}`, `{"\u0061":"b"}`,
		`{"a":"\q"}`, `{"a":"\ud83d"}`, `{"a" : "b" , "c":"` + "\u2028" + `"}`, "{\"a\":\"\t\"}", `{"a":1}`, `{"":""}`, `{"a`,
		`{,"a":"b"}`, `{"a":"b" "c":"d"}`, `{"a":"b\`, "{\"a\":\"\xff\"}", `{"a":"b"},`, "\ufeff{}",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := parseObject(slices.Clone(data))
		slow := &object{}
		slowErr := slow.parse(data)
		if (slowErr == nil) != (err == nil) && utf8.Valid(data) {
			t.Fatalf("%q: %v, want %v", data, err, slowErr)
		}
		if err != nil {
			return
		}
		if len(got.fields) != len(slow.fields) {
			t.Fatalf("%q: %d fields, want %d", data, len(got.fields), len(slow.fields))
		}
		for i, f := range got.fields {
			if f.name != slow.fields[i].name || !bytes.Equal(f.value, slow.fields[i].value) {
				t.Errorf("%q: field %q is %s, want %q, %s", data, f.name, f.value, slow.fields[i].name, slow.fields[i].value)
			}
		}
	})
}
