package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"freshet"
	"freshet/emitters"
	"freshet/views"
)

// positionHeader carries the positions of a write to the client, and back with a later request. Several are separated
// by commas.
const positionHeader = "Freshet-Position"

// maxPositions is how many positions a request may wait for.
const maxPositions = 8

// wrote notes a write's position in the answer's header, whatever the answer will be.
func wrote(w http.ResponseWriter, p emitters.Position) {
	h := w.Header()
	if before := h.Get(positionHeader); before != "" {
		h.Set(positionHeader, before+", "+p.String())
		return
	}
	h.Set(positionHeader, p.String())
}

// positionsOf reads the positions that a request names.
func positionsOf(r *http.Request) ([]emitters.Position, error) {
	all := strings.Join(r.Header.Values(positionHeader), ",")
	if all == "" {
		return nil, nil
	}
	texts := strings.Split(all, ",")
	if len(texts) > maxPositions {
		return nil, badRequest("%s has %d positions, at most %d are taken", positionHeader, len(texts), maxPositions)
	}
	positions := make([]emitters.Position, len(texts))
	for i, text := range texts {
		var err error
		if positions[i], err = emitters.ParsePosition(strings.TrimSpace(text)); err != nil {
			return nil, badRequest("%s: %v", positionHeader, err)
		}
	}
	return positions, nil
}

// awaitPositions waits until this process's views show the writes at the positions that the request names. Writes of
// posts need no wait: they are answered when Redis, which all API processes share, has them.
func (a *API) awaitPositions(r *http.Request) error {
	positions, err := positionsOf(r)
	if err != nil {
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
			return badRequest("%s %s: %v", positionHeader, p, err)
		}
		if p.Topic == freshet.Profiles {
			return a.Accounts.AwaitProfile(ctx, id, p.Offset)
		}
		_, err = a.Accounts.AwaitRegistration(ctx, id, p.Offset)
		return err
	case freshet.Follows:
		n, err := freshet.ParseNumber(p.Key)
		if err != nil {
			return badRequest("%s %s: %v", positionHeader, p, err)
		}
		return a.Following.AwaitApplied(ctx, n, p.Offset)
	case freshet.Posts:
		return nil
	}
	return fmt.Errorf("wait for the position %s: no view shows this topic", p)
}

// visible bounds a write's wait for the views.
func visible(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, VisibleTimeout)
}
