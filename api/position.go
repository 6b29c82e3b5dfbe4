package api

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"freshet"
	"freshet/emitters"
	"freshet/views"
)

// positionHeader carries the positions of a write to the client, and back with a later request. Several are separated
// by commas.
const positionHeader = "Freshet-Position"

const (
	// maxPositions is how many positions a request may wait for. Those of posts do not count: nothing waits for them.
	maxPositions = 8
	// maxNamed is how many partitions the answer to a batch names, so that its header stays one that clients take.
	maxNamed = 128
)

// wrote notes a write's position in the answer's header, whatever the answer will be.
func wrote(w http.ResponseWriter, p emitters.Position) {
	h := w.Header()
	if before := h.Get(positionHeader); before != "" {
		h.Set(positionHeader, before+", "+p.String())
		return
	}
	h.Set(positionHeader, p.String())
}

// wroteAll notes the highest position of each partition.
func wroteAll(w http.ResponseWriter, highest map[int32]emitters.Position) {
	partitions := slices.Sorted(maps.Keys(highest))
	for _, partition := range partitions[:min(len(partitions), maxNamed)] {
		wrote(w, highest[partition])
	}
}

// positionsOf reads the positions that a request names.
func positionsOf(r *http.Request) ([]emitters.Position, error) {
	all := strings.Join(r.Header.Values(positionHeader), ",")
	if all == "" {
		return nil, nil
	}
	var positions []emitters.Position
	waits := 0
	for text := range strings.SplitSeq(all, ",") {
		p, err := emitters.ParsePosition(strings.TrimSpace(text))
		if err != nil {
			return nil, badInput(positionHeader, "%s: %v", positionHeader, err)
		}
		if p.Topic != freshet.Posts {
			waits++
		}
		positions = append(positions, p)
	}
	if waits > maxPositions {
		return nil, badInput(positionHeader, "%s has %d positions to wait for, at most %d are taken", positionHeader, waits,
			maxPositions)
	}
	return positions, nil
}

// awaitPositions waits until this process's views show the writes at the positions that the request names. Writes of
// posts need no wait: they are answered when Redis, which all API processes share, has them.
func (a *API) awaitPositions(r *http.Request) error {
	positions, err := positionsOf(r)
	if err != nil || len(positions) == 0 {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), PositionTimeout)
	defer cancel()
	for _, p := range positions {
		err := a.await(ctx, p)
		if errors.Is(err, views.ErrNotVisible) {
			return unavailable(PositionTimeout, err, "this process has not come to position %s yet", p)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *API) await(ctx context.Context, p emitters.Position) error {
	switch p.Topic {
	case freshet.Registrations, freshet.Profiles:
		id, err := freshet.ParseAccountID(p.Key)
		if err != nil {
			return badInput(positionHeader, "%s %s: %v", positionHeader, p, err)
		}
		if p.Topic == freshet.Profiles {
			return a.Accounts.AwaitProfile(ctx, id, p.Offset)
		}
		_, err = a.Accounts.AwaitRegistration(ctx, id, p.Offset)
		return err
	case freshet.Follows:
		n, err := freshet.ParseNumber(p.Key)
		if err != nil {
			return badInput(positionHeader, "%s %s: %v", positionHeader, p, err)
		}
		return a.Following.AwaitApplied(ctx, n, p.Offset)
	case freshet.Posts:
		return nil
	}
	return fmt.Errorf("wait for the position %s: no view shows this topic", p)
}

// awaitFresh waits until the views know what others have hidden, as long as for a position.
func (a *API) awaitFresh(ctx context.Context) error {
	if a.Fresh.Err() == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, PositionTimeout)
	defer cancel()
	return a.Fresh.Await(ctx)
}

// visible bounds a write's wait for the views.
func visible(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, VisibleTimeout)
}
