package emitters

import (
	"context"
	"time"

	"freshet"
	"freshet/internal/events"
)

// Done takes the outcome of an asynchronous write. It is called once, from the producer's goroutine, and must not
// block: every acknowledgement of the topic waits for it.
type Done func(Position, error)

// Register writes a registration. Its place is the number of the account, if the directory finds that the id was free;
// replaces names the closed account whose id is taken over, nil for the first of its id.
func (e *Emitters) Register(
	ctx context.Context, id freshet.AccountID, at time.Time, replaces *freshet.Number,
) (Position, error) {
	return e.write(ctx, freshet.Registrations, string(id), registration(at, replaces))
}

// RegisterAsync is Register for many accounts. It waits while too many writes are in flight and returns an error
// without having written when ctx ends meanwhile; otherwise done is called. The same holds for the other Async writes.
func (e *Emitters) RegisterAsync(
	ctx context.Context, id freshet.AccountID, at time.Time, replaces *freshet.Number, done Done,
) error {
	return e.start(ctx, freshet.Registrations, string(id), registration(at, replaces), done)
}

func registration(at time.Time, replaces *freshet.Number) *events.Registration {
	m := &events.Registration{At: events.Millis(at)}
	if replaces != nil {
		n := uint64(*replaces)
		m.Replaces = &n
	}
	return m
}

// Profile writes the account's name and whether it is closed, at a time. The last profile of a number counts.
func (e *Emitters) Profile(ctx context.Context, a freshet.Account, at time.Time) (Position, error) {
	return e.write(ctx, freshet.Profiles, string(a.ID), events.ProfileOf(a, at))
}

// ProfileAsync is Profile for many accounts; see RegisterAsync.
func (e *Emitters) ProfileAsync(ctx context.Context, a freshet.Account, at time.Time, done Done) error {
	return e.start(ctx, freshet.Profiles, string(a.ID), events.ProfileOf(a, at), done)
}

// MaxTargets is how many targets a follow event may have, so that a record and the row it changes stay small.
const MaxTargets = 1_000

// Relate writes that who follows, unfollows, mutes, unmutes, blocks or unblocks one or up to MaxTargets others.
func (e *Emitters) Relate(
	ctx context.Context, who freshet.Number, kind events.FollowEvent_Kind, at time.Time, targets ...freshet.Number,
) (Position, error) {
	return e.write(ctx, freshet.Follows, who.Key(), followEvent(kind, at, targets))
}

// RelateAsync is Relate for many; see RegisterAsync. It has read targets when it returns.
func (e *Emitters) RelateAsync(
	ctx context.Context, who freshet.Number, kind events.FollowEvent_Kind, at time.Time, targets []freshet.Number,
	done Done,
) error {
	return e.start(ctx, freshet.Follows, who.Key(), followEvent(kind, at, targets), done)
}

func followEvent(kind events.FollowEvent_Kind, at time.Time, targets []freshet.Number) *events.FollowEvent {
	m := &events.FollowEvent{Kind: kind, At: events.Millis(at)}
	if len(targets) == 1 {
		m.Target = uint64(targets[0])
		return m
	}
	m.Targets = make([]uint64, len(targets))
	for i, t := range targets {
		m.Targets[i] = uint64(t)
	}
	return m
}

// Post writes that a post was created, edited or deleted.
func (e *Emitters) Post(ctx context.Context, event freshet.PostEvent) (Position, error) {
	return e.write(ctx, freshet.Posts, event.Post.Author.Key(), events.PostEventOf(event))
}

// PostAsync is Post for many; see RegisterAsync.
func (e *Emitters) PostAsync(ctx context.Context, event freshet.PostEvent, done Done) error {
	return e.start(ctx, freshet.Posts, event.Post.Author.Key(), events.PostEventOf(event), done)
}

// NodeStart writes that an API process has started on host. The offset of the position, modulo freshet.Nodes, is the
// node of the post ids that the process mints.
func (e *Emitters) NodeStart(ctx context.Context, host string, at time.Time) (Position, error) {
	return e.write(ctx, freshet.NodeStarts, host, &events.NodeStart{Host: host, At: events.Millis(at)})
}
