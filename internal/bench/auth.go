package bench

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"freshet/internal/auth"
	"freshet/internal/config"
	"freshet/internal/load"
)

const (
	// authRounds is how often the ways take turns: the machine may be slower at one time than at another.
	authRounds = 6
	// authRate is a rate limit that is counted and that nobody comes to, in units a second.
	authRate = 1e9
	// authAuthors and authReaders are how many accounts have tokens. A token is sent again and again, and checked once.
	authAuthors, authReaders = 1000, 5000
	authIssuer               = "bench"
)

// way is how requests are authenticated: url is that of a process which wants it.
type way struct {
	name   string
	url    func() string
	bearer func(account int) string
	cpu    time.Duration
	took   time.Duration
	done   int
}

// auth measures two API processes at once, one of which knows who asks and keeps callers to rates. The ways take turns.
func (b *bench) auth(ctx context.Context) error {
	n, err := b.makeNetwork()
	if err != nil {
		return err
	}
	c := b.config("guarded", config.API)
	tokens, err := b.credentials(&c)
	if err != nil {
		return err
	}
	_, key, err := auth.CreateKey(c.Auth.KeysFile, "bench", auth.Scopes, 0, time.Now())
	if err != nil {
		return fmt.Errorf("make a service key: %w", err)
	}
	c.RateLimit = authRate
	guarded := &program{b: b, n: n}
	measure := func(free *program) []*way {
		guard := func() string { return guarded.url }
		return []*way{
			{name: "without", url: func() string { return free.url }, bearer: func(int) string { return "" }},
			{name: "with a service key", url: guard, bearer: func(int) string { return key }},
			{name: "with tokens", url: guard, bearer: tokens},
		}
	}
	err = b.withNetwork(ctx, n, func(free *program) error {
		if err := errors.Join(free.fill(ctx), guarded.launch(ctx, c)); err != nil {
			return err
		}
		return b.takeTurns(ctx, "reads", measure(free), free.readAs)
	})
	if err == nil {
		texts := encoded(passages())
		err = b.withNetwork(ctx, n, func(free *program) error {
			return b.takeTurns(ctx, "posts", measure(free),
				func(ctx context.Context, c *client, worker int, bearer func(int) string) error {
					return free.postAs(ctx, c, worker, bearer, texts)
				})
		}, config.API)
	}
	return errors.Join(err, guarded.close())
}

// credentials has the process take service keys and tokens, and returns what makes tokens.
func (b *bench) credentials(c *config.Config) (tokens func(account int) string, err error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key for tokens: %w", err)
	}
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: public, KeyID: "1", Use: "sig"}}})
	if err != nil {
		return nil, fmt.Errorf("encode a key set: %w", err)
	}
	c.Auth = auth.Config{
		KeysFile: filepath.Join(b.servers.dir, "keys.json"), JWKS: filepath.Join(b.servers.dir, "jwks.json"),
		Issuer: authIssuer, Audience: authIssuer,
	}
	if err := os.WriteFile(c.Auth.JWKS, set, 0o600); err != nil {
		return nil, fmt.Errorf("write a key set: %w", err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: private},
		(&jose.SignerOptions{}).WithHeader("kid", "1"))
	if err != nil {
		return nil, fmt.Errorf("make a signer of tokens: %w", err)
	}
	var made sync.Map // place of the account → token
	end := jwt.NewNumericDate(time.Now().Add(24 * time.Hour))
	return func(account int) string {
		token, known := made.Load(account)
		if !known {
			text, err := jwt.Signed(signer).Claims(jwt.Claims{
				Issuer: authIssuer, Audience: jwt.Audience{authIssuer}, Expiry: end, Subject: fmt.Sprint("bench-", account),
			}).Serialize()
			if err != nil {
				panic(err) // of a string and a date
			}
			token, _ = made.LoadOrStore(account, text)
		}
		return token.(string) //nolint:forcetypeassert // nothing else is put there
	}, nil
}

// takeTurns does requests the ways in turns, and reports each beside the first.
func (b *bench) takeTurns(
	ctx context.Context, what string, ways []*way,
	do func(ctx context.Context, c *client, worker int, bearer func(int) string) error,
) error {
	for round := range authRounds + 1 {
		for _, w := range ways {
			b.Progress(what+" "+w.name, round, authRounds+1)
			c, err := (&program{b: b, url: w.url()}).client(connections)
			if err != nil {
				return err
			}
			before := cpu()
			o := load.Closed(ctx, connections, b.For/authRounds, func(ctx context.Context, worker int) error {
				return do(ctx, c, worker, w.bearer)
			})
			spent := cpu() - before
			c.close()
			if o.Failed > 0 {
				return fmt.Errorf("%s %s: %d of %d failed: %w", what, w.name, o.Failed, o.Sent, o.First)
			}
			if round > 0 { // the first is for caches
				w.cpu, w.took, w.done = w.cpu+spent, w.took+o.Took, w.done+o.Sent
			}
		}
	}
	rate := func(w *way) float64 { return float64(w.done) / w.took.Seconds() }
	each := func(w *way) float64 { return float64(w.cpu.Microseconds()) / float64(w.done) }
	for i, w := range ways {
		note := fmt.Sprintf("%d connections, %d turns; %.1f µs of CPU each, load included, servers not", connections,
			authRounds, each(w))
		b.result(what+" "+w.name, rate(w), what+"/s", note)
		if i > 0 {
			b.result(what+" "+w.name+" : without", rate(w)/rate(ways[0]), "", "of the rate")
			b.result(what+" "+w.name+", CPU : without", each(ways[0])/each(w), "", "of what a CPU-second does")
		}
	}
	return nil
}

// readAs reads the feed of somebody who has a token.
func (p *program) readAs(ctx context.Context, c *client, worker int, bearer func(int) string) error {
	i := c.rngs[worker].IntN(min(authReaders, p.readers()))
	place := i * (p.n.count / p.readers())
	c.conns[worker].Bearer = bearer(place)
	status, answer, err := c.conns[worker].Do(ctx, http.MethodGet, "/v1/accounts/"+string(p.n.id(place))+"/feed", "", nil)
	if err != nil {
		return err
	}
	return wanted(status, http.StatusOK, answer)
}

// postAs lets an author post who has a token.
func (p *program) postAs(
	ctx context.Context, c *client, worker int, bearer func(int) string, texts []string,
) error {
	a := p.n.authors[c.rngs[worker].IntN(min(authAuthors, len(p.n.authors)))]
	place := p.n.place(a.number)
	c.conns[worker].Bearer = bearer(place)
	body := fmt.Appendf(nil, `{"author":%q,"text":%s}`, p.n.id(place), texts[c.rngs[worker].IntN(len(texts))])
	status, answer, err := c.conns[worker].Do(ctx, http.MethodPost, "/v1/posts", "application/json", body)
	if err != nil {
		return err
	}
	return wanted(status, http.StatusCreated, answer)
}
