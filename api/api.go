package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/gorilla/mux"
	"golang.org/x/sync/semaphore"

	"freshet"
	"freshet/emitters"
	"freshet/internal/auth"
	"freshet/internal/idempotency"
	"freshet/streams"
	"freshet/views"
)

const (
	// handlerTimeout bounds a request, from its header to its answer.
	handlerTimeout = 10 * time.Second
	// VisibleTimeout bounds a write's wait for this process's views to show it.
	VisibleTimeout = 5 * time.Second
	// PositionTimeout bounds a request's wait for the positions that it names.
	PositionTimeout = time.Second
	// DefaultFollowCap is how many accounts an account may follow unless Config says otherwise.
	DefaultFollowCap = 10_000
)

// FeedReader reads home feeds.
type FeedReader interface {
	// Feed is the part of the reader's feed below a post id, 0 for the newest.
	Feed(ctx context.Context, reader freshet.Number, before freshet.PostID, limit int) (views.Page, error)
}

// PostReader reads posts.
type PostReader interface {
	// Post finds a post; deleted ones may be found, with DeletedAt set.
	Post(ctx context.Context, id freshet.PostID) (post freshet.Post, found bool, err error)
	// ByAuthor is the part of the author's posts below a post id, 0 for the newest.
	ByAuthor(ctx context.Context, author freshet.Number, before freshet.PostID, limit int) (views.Page, error)
}

// PostWriter writes posts. Its errors wrap emitters.ErrUnavailable where another attempt may succeed.
type PostWriter interface {
	// Publish writes a new post. When it returns, this process's readers find it. An error that wraps emitters.ErrSaved
	// says that the post is accepted all the same, and that nobody is shown it yet.
	Publish(ctx context.Context, post freshet.Post) (emitters.Position, error)
	// PublishAll is Publish for many posts at once, each with an outcome of its own.
	PublishAll(ctx context.Context, posts []freshet.Post) []emitters.Outcome
	// Edit gives a post another text and returns it; found is false for one that is deleted or never was. When it returns,
	// this process's readers find the new text, unless the error wraps emitters.ErrNotShown.
	Edit(ctx context.Context, id freshet.PostID, text string, may emitters.May) (
		post freshet.Post, position emitters.Position, found bool, err error)
	// Delete deletes a post; found is false for one that never was. A post that is deleted already is found, and the
	// position may be zero.
	Delete(ctx context.Context, id freshet.PostID, may emitters.May) (
		position emitters.Position, found bool, err error)
}

// FollowingRows looks up rows of following. It is an interface, unlike the other views, because a deployment whose
// table outgrows one disk will ask another process for some of them.
type FollowingRows interface {
	Row(n freshet.Number) (*freshet.Following, error)
	AwaitApplied(ctx context.Context, n freshet.Number, offset int64) error
}

// FollowerLists lists followers: up to limit of them, ascending, from a number on.
type FollowerLists interface {
	Followers(ctx context.Context, followee, from freshet.Number, limit int) ([]freshet.Number, error)
}

// Config is what the API stands on. Everything without a default is needed.
type Config struct {
	Accounts  *views.Accounts
	Stats     *views.Stats
	Following FollowingRows
	// Fresh says whether Accounts and Following are behind; nothing is read through them then. Nil: they never are.
	Fresh     *views.Fresh
	Followers FollowerLists
	Feeds     FeedReader
	Posts     PostReader
	Streams   *streams.Hub
	Publisher PostWriter
	Emitters  *emitters.Emitters
	Minter    *freshet.Minter
	// CursorKey signs cursors: at least 32 random bytes, the same in all API processes and after a restart.
	CursorKey []byte
	// FollowCap is how many accounts an account may follow; 0 means DefaultFollowCap. Follows that arrive at several
	// API processes at once may pass it by a few.
	FollowCap int
	// Auth says who sends requests; nil: everybody may do everything.
	Auth Verifier
	// Answers keeps the answers to requests with an Idempotency-Key; nil: in this process only.
	Answers *idempotency.Store
	// RateLimit is how many cost units a second a caller has, 0 for no limit, and RateBurst how many it can save up; 0 is
	// what comes in ten seconds.
	RateLimit float64
	RateBurst int
	// MaxInFlight is how many requests are worked on at once; 0 means DefaultMaxInFlight.
	MaxInFlight int
	// Log is slog.Default() if nil.
	Log *slog.Logger
	// Now is time.Now if nil.
	Now func() time.Time
}

// API is the http.Handler of the API. It is safe for concurrent use.
type API struct {
	Config
	router  *mux.Router
	cursors cursors
	lines   *semaphore.Weighted // of the batches that are judged and published
	turns   *semaphore.Weighted // of the batches that a processor works on
	bodies  *budget
	answers *budget
	gate    gate
	limits  *limits
}

// New makes the handler.
func New(c Config) (*API, error) {
	if len(c.CursorKey) < minCursorKey {
		return nil, fmt.Errorf("the cursor key has %d bytes, want at least %d", len(c.CursorKey), minCursorKey)
	}
	if c.FollowCap == 0 {
		c.FollowCap = DefaultFollowCap
	}
	if c.Answers == nil {
		c.Answers = &idempotency.Store{}
	}
	if c.MaxInFlight == 0 {
		c.MaxInFlight = DefaultMaxInFlight
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	a := &API{
		Config: c, cursors: cursors{key: slices.Clone(c.CursorKey)},
		lines: semaphore.NewWeighted(linesAtOnce), turns: semaphore.NewWeighted(int64(max(1, runtime.GOMAXPROCS(0)/2))),
		bodies: newBudget(maxBodies), answers: newBudget(maxAnswers),
	}
	a.gate.most = int64(c.MaxInFlight)
	a.limits = newLimits(c.RateLimit, c.RateBurst, c.Now)
	a.router = a.routes()
	return a, nil
}

func (a *API) routes() *mux.Router {
	const account, target, post = "/v1/accounts/{id}", "/{target}", "/v1/posts/{post}"
	r := mux.NewRouter().SkipClean(true) // no redirects: a path that is not in openapi.yaml is a 404
	for _, route := range []struct {
		method, path string
		handle       func(http.ResponseWriter, *http.Request) error
	}{
		// mux tries one after another, each with a regular expression: what is asked most comes first.
		{http.MethodGet, account + "/feed", tagged(a.getFeed)},
		{http.MethodPost, "/v1/posts", a.idempotent(MaxBody, a.createPost)},
		{http.MethodGet, account + "/feed/stream", a.streamFeed},

		{http.MethodPut, account, a.putAccount},
		{http.MethodGet, account, a.getAccount},
		{http.MethodDelete, account, a.deleteAccount},

		{http.MethodPut, account + "/following" + target, a.follow},
		{http.MethodDelete, account + "/following" + target, a.unfollow},
		{http.MethodPut, account + "/muted" + target, a.mute},
		{http.MethodDelete, account + "/muted" + target, a.unmute},
		{http.MethodPut, account + "/blocked" + target, a.block},
		{http.MethodDelete, account + "/blocked" + target, a.unblock},

		{http.MethodGet, account + "/following", a.listFollowing},
		{http.MethodGet, account + "/followers", a.listFollowers},
		{http.MethodGet, account + "/muted", a.listMuted},
		{http.MethodGet, account + "/blocked", a.listBlocked},

		{http.MethodGet, post, a.getPost},
		{http.MethodPatch, post, a.editPost},
		{http.MethodDelete, post, a.deletePost},
		// Behind those of one post: when a matcher beside path and method fails, mux forgets the methods that it has seen.
		{http.MethodPost, batchPath, a.createPosts},
		{http.MethodGet, account + "/posts", a.listPosts},

		{http.MethodGet, "/openapi.yaml", getOpenAPI},
		{http.MethodGet, "/docs", getDocs},
	} {
		methods := []string{route.method}
		if route.method == http.MethodGet {
			methods = append(methods, http.MethodHead)
		}
		made := r.Handle(route.path, a.handler(permissions[route.method+" "+route.path], route.handle)).Methods(methods...)
		if route.path == post {
			made.MatcherFunc(notBatch)
		}
	}
	everybody := permission{who: anyone}
	r.NotFoundHandler = a.handler(everybody, func(http.ResponseWriter, *http.Request) error {
		return notFound("there is nothing at this path; /openapi.yaml and /docs list what there is")
	})
	r.MethodNotAllowedHandler = a.handler(everybody, a.methodNotAllowed)
	return r
}

// notBatch keeps the path of batches from being taken for that of a post.
func notBatch(r *http.Request, _ *mux.RouteMatch) bool { return r.URL.Path != batchPath }

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "private, no-store")
	sent := &sentWriter{ResponseWriter: w, until: time.Now().Add(writeTimeout)}
	defer func() {
		switch p := recover(); {
		case p == nil:
		case p == http.ErrAbortHandler: //nolint:errorlint // net/http compares it so, too
			panic(p)
		default:
			a.Log.Error("a handler panicked", "method", r.Method, "path", r.URL.Path, "panic", p,
				"stack", string(debug.Stack()))
			if sent.sent {
				panic(http.ErrAbortHandler) // an answer that was begun must not look whole
			}
			writeProblem(w, internalError())
		}
	}()
	a.answer(sent, r)
	if sent.rest != nil {
		sent.rest(r.Context())
	}
}

// answer answers within the bounds for requests.
func (a *API) answer(w *sentWriter, r *http.Request) {
	if !open(r) {
		var p *place
		if r, p = a.enter(r); p == nil {
			writeProblem(w, unavailable(shedRetry, nil, "too many requests are being worked on"))
			return
		}
		defer p.leave()
	}
	a.router.ServeHTTP(w, r)
}

// handler surrounds a route: its deadlines, who may use it, the positions that the request waits for, and its error as
// a problem.
func (a *API) handler(use permission, handle func(http.ResponseWriter, *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// A test's recorder knows no deadlines; a server's connection always does.
		err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
		if err != nil && !errors.Is(err, http.ErrNotSupported) {
			a.Log.Warn("set the write deadline of an answer", "error", err)
		}
		ctx, cancel := context.WithTimeout(r.Context(), handlerTimeout)
		defer cancel()
		ctx, err = a.admit(ctx, w, r, use)
		r = r.WithContext(ctx)
		if err == nil {
			err = a.awaitPositions(r)
		}
		if err == nil && use.scope == auth.Read {
			err = a.awaitFresh(r.Context())
		}
		if err == nil {
			err = handle(w, r)
		}
		if err == nil {
			return
		}
		p := problemOf(err)
		if p.Status >= http.StatusInternalServerError {
			a.Log.Log(r.Context(), p.level(), "a request failed", "method", r.Method, "path", r.URL.Path,
				"status", p.Status, "error", err)
		}
		writeProblem(w, p)
	})
}

// methodNotAllowed names the methods that the path does have.
func (a *API) methodNotAllowed(w http.ResponseWriter, r *http.Request) error {
	var allowed []string
	for _, method := range []string{
		http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
	} {
		try := r.Clone(r.Context())
		try.Method = method
		var match mux.RouteMatch
		if a.router.Match(try, &match) && match.MatchErr == nil {
			allowed = append(allowed, method)
		}
	}
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	return &problem{Status: http.StatusMethodNotAllowed, Detail: "this path takes " + strings.Join(allowed, ", ")}
}

// sentWriter notes whether an answer was begun.
type sentWriter struct {
	http.ResponseWriter
	sent  bool
	until time.Time // when the answer has to be written
	// rest, if a handler has set it, goes on with the answer once the handler has returned: for as long as it takes, and
	// without one of the places for requests.
	rest func(ctx context.Context)
}

func (w *sentWriter) WriteHeader(status int) {
	w.sent = true
	w.ResponseWriter.WriteHeader(status)
}

func (w *sentWriter) Write(data []byte) (int, error) {
	w.sent = true
	if w.rest != nil || len(data) <= answerChunk {
		return w.ResponseWriter.Write(data)
	}
	written := 0
	for part := range slices.Chunk(data, answerChunk) { // a reader that stands still is given up long before until
		next := time.Now().Add(answerPause)
		if next.After(w.until) {
			next = w.until
		}
		if err := ignoreUnsupported(http.NewResponseController(w.ResponseWriter).SetWriteDeadline(next)); err != nil {
			return written, err
		}
		n, err := w.ResponseWriter.Write(part)
		if written += n; err != nil {
			return written, err
		}
	}
	return written, nil
}

// Unwrap is for http.ResponseController.
func (w *sentWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
