package streams_test

import (
	"bufio"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"freshet"
	"freshet/internal/auth"
	"freshet/internal/config"
)

// A reader that stands still, over a real connection, is dropped; another one is told everything meanwhile, and who was
// dropped comes back and misses nothing.
func TestAReaderThatStandsStillIsDropped(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	p := d.api("one")
	p.register("ann", "bob")
	p.follow("ann", "bob")
	quick := p.open("ann", "")
	address, err := url.Parse(p.APIURL())
	if err != nil {
		t.Fatal(err)
	}
	still, err := net.Dial("tcp", address.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer still.Close() //nolint:errcheck // the server has closed it
	if err := still.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(still, "GET /v1/accounts/ann/feed/stream HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReaderSize(still, 16)
	from := ""
	for from == "" { // it reads where it is, and nothing more
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if id, found := strings.CutPrefix(line, "id: "); found {
			from = strings.TrimSpace(id)
		}
	}
	open := func(n int) bool { return strings.Contains(p.metrics(), fmt.Sprintf("\nfreshet_streams_open %d\n", n)) }
	d.until("both streams are open", func() bool { return open(2) })
	var texts []string
	padding := strings.Repeat("é", freshet.MaxText-20)
	for n := 0; open(2); n++ {
		if n == 4000 {
			t.Fatal("80 MB were posted, and the reader that stands still is not dropped")
		}
		text := fmt.Sprint(n, " ", padding)
		p.post("bob", text)
		texts = append(texts, "post "+text)
		quick.want("post " + text) // each as it comes: nobody waits for the other
	}
	if !strings.Contains(p.metrics(), "\nfreshet_streams_open 1\n") {
		t.Error("the wrong stream was ended")
	}
	p.post("bob", "the last one")
	quick.want("post the last one")
	back := p.open("ann", from)
	back.want(append(texts, "post the last one")...)
}

// signer signs tokens.
type signer struct {
	key  ed25519.PrivateKey
	file string // the key set
}

func newSigner(t *testing.T) *signer {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: public, KeyID: "1", Use: "sig"}}})
	if err != nil {
		t.Fatal(err)
	}
	s := &signer{private, filepath.Join(t.TempDir(), "jwks.json")}
	if err := os.WriteFile(s.file, set, 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// token is good for an account until a time, and as much longer as clocks may differ.
func (s *signer) token(t *testing.T, account string, until time.Time) string {
	t.Helper()
	made, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: s.key},
		(&jose.SignerOptions{}).WithHeader("kid", "1"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := jwt.Signed(made).Claims(jwt.Claims{
		Issuer: "issuer", Audience: jwt.Audience{"freshet"}, Subject: account, Expiry: jwt.NewNumericDate(until),
	}).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// A stream whose credentials are revoked or expire says so and ends; those of others go on.
func TestCredentialsEnd(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	tokens, keys := newSigner(t), filepath.Join(d.dir, "keys.json")
	create := func(life time.Duration) (auth.Key, string) {
		key, text, err := auth.CreateKey(keys, "test", auth.Scopes, life, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return key, "Bearer " + text
	}
	_, backend := create(0)
	p := d.startWith("one", func(c *config.Config) {
		c.Auth = auth.Config{KeysFile: keys, JWKS: tokens.file, Issuer: "issuer", Audience: "freshet"}
	}, config.API)
	as := []string{"Authorization", backend}
	for _, id := range []string{"ann", "bob"} {
		p.do(http.MethodPut, "accounts/"+id, "", as...)
	}
	p.do(http.MethodPut, "accounts/ann/following/bob", "", as...)
	kept := p.open("ann", "", as...)
	open := func(name string, credentials string) *reader {
		r := p.open("ann", "", "Authorization", credentials)
		r.account = name
		return r
	}
	const leeway = 30 * time.Second // of package auth
	revoked, text := create(0)
	var ending []*reader
	d.until("the new key is known", func() bool { return p.status("ann", "", "Authorization", text) == 200 })
	ending = append(ending, open("a key that is revoked", text))
	_, text = create(4 * time.Second)
	d.until("the key that expires is known", func() bool { return p.status("ann", "", "Authorization", text) == 200 })
	ending = append(ending, open("a key that expires", text))
	token := tokens.token(t, "ann", time.Now().Add(4*time.Second-leeway))
	ending = append(ending, open("a token that expires", "Bearer "+token))
	lasts := open("a token that does not", "Bearer "+tokens.token(t, "ann", time.Now().Add(time.Hour)))
	if err := auth.RevokeKey(keys, revoked.ID); err != nil {
		t.Fatal(err)
	}
	posts := 0
	d.until("the streams end", func() bool {
		p.do(http.MethodPost, "posts", fmt.Sprintf(`{"author":"bob","text":"number %d"}`, posts), as...)
		posts++
		for _, r := range ending {
			select {
			case <-r.gone:
			default:
				return false
			}
		}
		return true
	})
	for _, r := range ending {
		close(r.events)
		var last event
		for e := range r.events {
			last = e
		}
		var problem struct {
			Status        int
			Title, Detail string
		}
		if err := json.Unmarshal([]byte(last.data), &problem); err != nil || last.kind != "end" ||
			problem.Status != http.StatusUnauthorized || problem.Detail == "" {
			t.Errorf("%s: it ends with %q %s", r.account, last.kind, last.data)
		}
	}
	for _, r := range []*reader{kept, lasts} {
		for i := range posts {
			r.want(fmt.Sprint("post number ", i))
		}
	}
}

// Who comes back from before what the log has kept is told to read the feed anew, and gets what comes then.
func TestOlderThanTheLog(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	p := d.api("one")
	p.register("ann", "bob")
	p.follow("ann", "bob")
	r := p.open("ann", "")
	p.post("bob", "read")
	r.want("post read")
	from := r.last()
	r.close()
	p.post("bob", "removed")
	p.post("ann", "removed, too")

	client, err := kgo.NewClient(kgo.SeedBrokers(d.common.Kafka...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	admin, topic := kadm.NewClient(client), freshet.DefaultPrefix+string(freshet.Posts)
	ends, err := admin.ListEndOffsets(t.Context(), topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
	removed, err := admin.DeleteRecords(t.Context(), ends.Offsets())
	if err == nil {
		err = removed.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
	// The process that has them in its memory goes on from there.
	p.open("ann", from).wantAfterRepeats([]string{"post read"}, "post removed", "post removed, too")
	other := d.api("two")
	again := other.open("ann", from)
	if e := again.next(); e.kind != "reset" || e.id == from {
		t.Fatalf("told %q with the id %q, want to read the feed anew", e.text(), e.id)
	}
	p.post("bob", "afterwards")
	again.want("post afterwards")
	last := again.last()
	again.close()
	p.post("bob", "and so on")
	other.open("ann", last).wantAfterRepeats([]string{"post afterwards"}, "post and so on")
}
