package api

import (
	recency "container/list"
	"fmt"
	"math"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"freshet/internal/auth"
)

// DefaultMaxInFlight is how many requests a process works on at once unless Config says otherwise. A request may hold
// a body and a page, some 100 KiB in the middle and a few MiB at the worst, so this many take some 100 MiB. A process
// that answers thousands of requests a second has a few dozen in its hands; with a thousand it is behind, and what it
// took beyond that would be answered after its clients have gone.
const DefaultMaxInFlight = 1024

// shedRetry is when somebody who was turned away may come again.
const shedRetry = time.Second

// gate counts the requests that are worked on.
type gate struct {
	most     int64
	inFlight atomic.Int64
}

// enter says whether there is room; who was let in leaves.
func (g *gate) enter() bool {
	if g.inFlight.Add(1) <= g.most {
		return true
	}
	g.inFlight.Add(-1)
	return false
}

func (g *gate) leave() { g.inFlight.Add(-1) }

// open says whether a request is answered however much there is to do: it costs nothing, and monitors use it.
func open(r *http.Request) bool { return r.URL.Path == "/openapi.yaml" || r.URL.Path == "/docs" }

// mostCallers is how many callers' rates are remembered: some 300 bytes each. Who is forgotten, because so many others
// came since, begins anew with a full burst.
const mostCallers = 50_000

// limits keep each caller to a rate. A nil one allows everything. It is safe for concurrent use.
type limits struct {
	rate   rate.Limit // cost units a second
	burst  int        // units
	policy string
	now    func() time.Time

	mu      sync.Mutex
	callers map[string]*recency.Element
	recent  *recency.List // of *calls; most recent first
}

type calls struct {
	caller  string
	limiter *rate.Limiter
}

func newLimits(perSecond float64, burst int, now func() time.Time) *limits {
	if perSecond <= 0 {
		return nil
	}
	if burst <= 0 {
		burst = max(1, int(math.Ceil(10*perSecond)))
	}
	l := &limits{
		rate: rate.Limit(perSecond), burst: burst, now: now, callers: map[string]*recency.Element{}, recent: recency.New(),
	}
	l.policy = fmt.Sprintf(`"default";q=%d;w=%d`, burst, l.seconds(float64(burst)))
	return l
}

// seconds is how long so many units take to come back, rounded up.
func (l *limits) seconds(units float64) int { return int(math.Ceil(max(0, units) / float64(l.rate))) }

// charge takes units from the caller's rate, and refuses if they are not there. What costs more than a whole burst is
// allowed when the burst is there, and has to be paid off before anything else is.
func (l *limits) charge(w http.ResponseWriter, r *http.Request, c *auth.Caller, units int) error {
	if l == nil || units <= 0 {
		return nil
	}
	left, ok := l.take(callerName(r, c), units)
	h := w.Header()
	h["Ratelimit-Policy"] = []string{l.policy}
	h.Set("RateLimit", fmt.Sprintf(`"default";r=%d;t=%d`, max(0, int(left)), l.seconds(float64(l.burst)-left)))
	if ok {
		return nil
	}
	wait := l.seconds(l.needs(units) - left)
	return &problem{
		Status: http.StatusTooManyRequests, retryAfter: time.Duration(max(1, wait)) * time.Second,
		Detail: fmt.Sprintf("this costs %d units, and the caller has %d; %g come back a second, up to %d",
			units, max(0, int(left)), float64(l.rate), l.burst),
	}
}

// needs is how many units must be there for what costs so many. A burst is all but one: a route has its own cost, too.
func (l *limits) needs(units int) float64 { return float64(min(units, max(1, l.burst-1))) }

// take returns how many units the caller has now, less than 0 while a large request is being paid off.
func (l *limits) take(caller string, units int) (left float64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	limiter := l.of(caller)
	if left = limiter.TokensAt(now); left < l.needs(units) {
		return left, false
	}
	for units > 0 { // a limiter takes no more than a burst at once
		part := min(units, l.burst)
		limiter.ReserveN(now, part)
		units -= part
	}
	return limiter.TokensAt(now), true
}

func (l *limits) of(caller string) *rate.Limiter {
	if e, known := l.callers[caller]; known {
		l.recent.MoveToFront(e)
		return e.Value.(*calls).limiter //nolint:forcetypeassert // the list holds nothing else
	}
	if l.recent.Len() >= mostCallers {
		oldest := l.recent.Back()
		delete(l.callers, l.recent.Remove(oldest).(*calls).caller) //nolint:forcetypeassert // see above
	}
	c := &calls{caller, rate.NewLimiter(l.rate, l.burst)}
	l.callers[caller] = l.recent.PushFront(c)
	return c.limiter
}

// callerName tells callers apart: by their credentials, or where there are none, by their addresses.
func callerName(r *http.Request, c *auth.Caller) string {
	if c != nil {
		return c.Name()
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// charge takes more from the caller's rate than the route's own cost: for handlers whose work depends on what was sent.
// It is called before the work is done, and its error is the answer.
func (a *API) charge(w http.ResponseWriter, r *http.Request, units int) error {
	return a.limits.charge(w, r, callerOf(r), units)
}
