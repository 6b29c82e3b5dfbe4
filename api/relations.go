package api

import (
	"net/http"

	"freshet"
	"freshet/emitters"
	"freshet/internal/events"
)

// maxHidden is how many accounts an account may mute, and how many it may block: they are in its row, which has to stay
// a record that Kafka takes.
const maxHidden = 10_000

// pair finds the two accounts of a path: the one that acts and its target.
func (a *API) pair(r *http.Request) (who, target freshet.Account, err error) {
	if who, err = a.account(r, "id"); err != nil {
		return who, target, err
	}
	if target, err = a.account(r, "target"); err != nil {
		return who, target, err
	}
	if who.Number == target.Number {
		return who, target, unprocessable("an account cannot follow, mute or block itself")
	}
	return who, target, nil
}

// follow writes the event also when the view says that the follow is there: an end of it that this process does not see
// yet may lie in between.
func (a *API) follow(w http.ResponseWriter, r *http.Request) error {
	who, target, err := a.pair(r)
	if err != nil {
		return err
	}
	row, err := a.Following.Row(who.Number)
	if err != nil {
		return err
	}
	targetRow, err := a.Following.Row(target.Number)
	if err != nil {
		return err
	}
	switch {
	case row.Blocks(target.Number):
		return forbidden("%q blocks %q", who.ID, target.ID)
	case targetRow.Blocks(who.Number):
		return forbidden("%q blocks %q", target.ID, who.ID)
	case !row.Follows(target.Number) && row.Count() >= a.FollowCap:
		return unprocessable("%q follows %d accounts, which is the most there may be", who.ID, a.FollowCap)
	}
	return a.relate(w, r, change{who.Number, events.FollowEvent_FOLLOW, target.Number})
}

func (a *API) unfollow(w http.ResponseWriter, r *http.Request) error {
	return a.relatePair(w, r, events.FollowEvent_UNFOLLOW)
}

func (a *API) mute(w http.ResponseWriter, r *http.Request) error {
	who, target, err := a.pair(r)
	if err != nil {
		return err
	}
	row, err := a.Following.Row(who.Number)
	if err != nil {
		return err
	}
	if !row.Mutes(target.Number) && row != nil && len(row.Muted) >= maxHidden {
		return unprocessable("%q mutes %d accounts, which is the most there may be", who.ID, maxHidden)
	}
	return a.relate(w, r, change{who.Number, events.FollowEvent_MUTE, target.Number})
}

func (a *API) unmute(w http.ResponseWriter, r *http.Request) error {
	return a.relatePair(w, r, events.FollowEvent_UNMUTE)
}

func (a *API) unblock(w http.ResponseWriter, r *http.Request) error {
	return a.relatePair(w, r, events.FollowEvent_UNBLOCK)
}

// block ends the follows both ways. Each of its three events goes to the log of the account that it is about, the block
// first: if Kafka fails in between, they are hidden from each other and the request says that it may be repeated.
func (a *API) block(w http.ResponseWriter, r *http.Request) error {
	who, target, err := a.pair(r)
	if err != nil {
		return err
	}
	row, err := a.Following.Row(who.Number)
	if err != nil {
		return err
	}
	if !row.Blocks(target.Number) && row != nil && len(row.Blocked) >= maxHidden {
		return unprocessable("%q blocks %d accounts, which is the most there may be", who.ID, maxHidden)
	}
	return a.relate(w, r,
		change{who.Number, events.FollowEvent_BLOCK, target.Number},
		change{who.Number, events.FollowEvent_UNFOLLOW, target.Number},
		change{target.Number, events.FollowEvent_UNFOLLOW, who.Number})
}

func (a *API) relatePair(w http.ResponseWriter, r *http.Request, kind events.FollowEvent_Kind) error {
	who, target, err := a.pair(r)
	if err != nil {
		return err
	}
	return a.relate(w, r, change{who.Number, kind, target.Number})
}

// change is an event of the follows topic.
type change struct {
	who    freshet.Number
	kind   events.FollowEvent_Kind
	target freshet.Number
}

// relate writes the changes one after another, waits until the rows show them, and answers.
func (a *API) relate(w http.ResponseWriter, r *http.Request, changes ...change) error {
	last := make(map[freshet.Number]emitters.Position) // by who: a row that shows the last shows all before
	for i, c := range changes {
		position, err := a.Emitters.Relate(r.Context(), c.who, c.kind, a.Now(), c.target)
		if err != nil {
			return err
		}
		last[c.who] = position
		if i+1 == len(changes) || changes[i+1].who != c.who {
			wrote(w, position)
		}
	}
	ctx, cancel := visible(r.Context())
	defer cancel()
	for who, position := range last {
		if err := a.Following.AwaitApplied(ctx, who, position.Offset); err != nil {
			return err
		}
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
