package api

import (
	"context"
	"net/http"
	"unicode/utf8"

	"freshet"
)

type accountJSON struct {
	ID        freshet.AccountID `json:"id"`
	Name      string            `json:"name"`
	CreatedAt jsonTime          `json:"created_at"`
	Followers uint64            `json:"followers"`
	Following int               `json:"following"`
	Posts     uint64            `json:"posts"`
}

// putAccount registers an id that is free or closed, and gives the account a name if the request has one. Registering
// an id twice at once is decided by the directory: both requests end with the same account.
func (a *API) putAccount(w http.ResponseWriter, r *http.Request) error {
	id, err := pathID(r, "id")
	if err != nil {
		return err
	}
	body, err := readObject(w, r, true)
	if err != nil {
		return err
	}
	name, named := body.text("name")
	body.rule("name", utf8.RuneCountInString(name) <= freshet.MaxName, "has more than %d characters", freshet.MaxName)
	if err := body.end(); err != nil {
		return err
	}
	account, known, err := a.Accounts.ByID(id)
	if err != nil {
		return err
	}
	status := http.StatusOK
	if !known || account.Closed {
		var replaces *freshet.Number
		if known {
			replaces = &account.Number
		}
		var isNew bool
		if account, isNew, err = a.register(w, r, id, replaces); err != nil {
			return err
		}
		if isNew {
			status = http.StatusCreated
		}
	}
	if named {
		account.Name = name
		if err := a.writeProfile(w, r, account); err != nil {
			return err
		}
	}
	return a.respondAccount(w, status, account)
}

// register writes a registration and waits for the account that has the id then; isNew says whether it is this one. A
// registration that does not name the closed account in its way changes nothing; this happens if the view that was
// asked is behind, and the next attempt names it.
func (a *API) register(
	w http.ResponseWriter, r *http.Request, id freshet.AccountID, replaces *freshet.Number,
) (account freshet.Account, isNew bool, err error) {
	ctx := r.Context()
	for {
		position, err := a.Emitters.Register(ctx, id, a.Now(), replaces)
		if err != nil {
			return freshet.Account{}, false, err
		}
		wrote(w, position)
		account, err := a.awaitRegistration(ctx, id, position.Offset)
		if err != nil {
			return freshet.Account{}, false, err
		}
		if !account.Closed {
			return account, account.Number == freshet.NumberAt(position.Partition, position.Offset), nil
		}
		replaces = &account.Number
	}
}

func (a *API) awaitRegistration(ctx context.Context, id freshet.AccountID, offset int64) (freshet.Account, error) {
	ctx, cancel := visible(ctx)
	defer cancel()
	return a.Accounts.AwaitRegistration(ctx, id, offset)
}

func (a *API) writeProfile(w http.ResponseWriter, r *http.Request, account freshet.Account) error {
	position, err := a.Emitters.Profile(r.Context(), account, a.Now())
	if err != nil {
		return err
	}
	wrote(w, position)
	ctx, cancel := visible(r.Context())
	defer cancel()
	return a.Accounts.AwaitProfile(ctx, account.ID, position.Offset)
}

func (a *API) getAccount(w http.ResponseWriter, r *http.Request) error {
	account, err := a.account(r, "id")
	if err != nil {
		return err
	}
	return a.respondAccount(w, http.StatusOK, account)
}

// deleteAccount closes an account. Its name stays in the record, which is all there is to say of it.
func (a *API) deleteAccount(w http.ResponseWriter, r *http.Request) error {
	account, err := a.account(r, "id")
	if err != nil {
		return err
	}
	account.Closed = true
	if err := a.writeProfile(w, r, account); err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

func (a *API) respondAccount(w http.ResponseWriter, status int, account freshet.Account) error {
	counts, err := a.Stats.Counts(account.Number)
	if err != nil {
		return err
	}
	row, err := a.Following.Row(account.Number)
	if err != nil {
		return err
	}
	return respond(w, status, accountJSON{
		ID: account.ID, Name: account.Name, CreatedAt: jsonTime(account.CreatedAt),
		Followers: counts.Followers, Following: row.Count(), Posts: counts.Posts,
	})
}
