package api

import (
	"net/http"
	"slices"

	"freshet"
)

type accountItem struct {
	ID freshet.AccountID `json:"id"`
}

func (a *API) listFollowing(w http.ResponseWriter, r *http.Request) error {
	v, err := a.viewer(r)
	if err != nil {
		return err
	}
	return a.listRow(w, r, followingList, v, func(row *freshet.Following) []freshet.Number {
		var numbers []freshet.Number
		for _, relation := range row.Relations {
			if relation.Follows {
				numbers = append(numbers, relation.Account)
			}
		}
		return numbers
	})
}

func (a *API) listMuted(w http.ResponseWriter, r *http.Request) error {
	return a.listRow(w, r, mutedList, viewer{asAuthor: true}, func(row *freshet.Following) []freshet.Number {
		return row.Muted
	})
}

func (a *API) listBlocked(w http.ResponseWriter, r *http.Request) error {
	return a.listRow(w, r, blockedList, viewer{asAuthor: true}, func(row *freshet.Following) []freshet.Number {
		return row.Blocked
	})
}

// listRow answers with accounts that the account's own row names, in the order of their numbers.
func (a *API) listRow(
	w http.ResponseWriter, r *http.Request, kind listKind, v viewer,
	numbersOf func(*freshet.Following) []freshet.Number,
) error {
	account, limit, from, err := a.listOf(r, kind)
	if err != nil {
		return err
	}
	row, err := a.Following.Row(account.Number)
	if err != nil {
		return err
	}
	hidden, err := a.blocked(v, account.Number)
	if err != nil {
		return err
	}
	items := []accountItem{}
	if row == nil || hidden {
		return a.respondList(w, r, list{Items: items}, kind, account.Number, limit, 0)
	}
	numbers := numbersOf(row)
	start, _ := slices.BinarySearch(numbers, freshet.Number(from))
	rest := numbers[start:]
	for len(rest) > 0 && len(items) < limit {
		if items, err = a.appendOpen(items, rest[0], v); err != nil {
			return err
		}
		rest = rest[1:]
	}
	var next uint64
	if len(rest) > 0 {
		next = uint64(rest[0])
	}
	return a.respondList(w, r, list{Items: items}, kind, account.Number, limit, next)
}

// followerRounds bounds the reads of the store for one page, most of whose followers may have closed their accounts.
const followerRounds = 4

// listFollowers answers with the accounts that follow the account. The store is a moment behind the rows of the
// followers, so a request that names the position of a follow, or of its end, sees it through the follower's row.
func (a *API) listFollowers(w http.ResponseWriter, r *http.Request) error {
	account, limit, value, err := a.listOf(r, followersList)
	if err != nil {
		return err
	}
	from := freshet.Number(value)
	v, err := a.viewer(r)
	if err != nil {
		return err
	}
	if hidden, err := a.blocked(v, account.Number); err != nil || hidden {
		if err != nil {
			return err
		}
		return a.respondList(w, r, list{Items: []accountItem{}}, followersList, account.Number, limit, 0)
	}
	written, err := a.writtenFollowers(r, account.Number)
	if err != nil {
		return err
	}
	items := []accountItem{}
	for round := 0; round < followerRounds && len(items) < limit; round++ {
		want := limit - len(items)
		numbers, err := a.Followers.Followers(r.Context(), account.Number, from, want)
		if err != nil {
			return err
		}
		more := len(numbers) == want
		end := freshet.Number(1 << 63) // no number is this high
		if more {
			end = numbers[len(numbers)-1] + 1
		}
		for _, n := range overlay(numbers, written, from, end) {
			if len(items) == limit {
				end, more = n, true
				break
			}
			if items, err = a.appendOpen(items, n, v); err != nil {
				return err
			}
		}
		if !more {
			return a.respondList(w, r, list{Items: items}, followersList, account.Number, limit, 0)
		}
		from = end
	}
	return a.respondList(w, r, list{Items: items}, followersList, account.Number, limit, uint64(from))
}

// writtenFollowers says of each account whose follows position the request names whether it follows the account.
func (a *API) writtenFollowers(r *http.Request, followee freshet.Number) (map[freshet.Number]bool, error) {
	positions, err := positionsOf(r)
	if err != nil {
		return nil, err
	}
	written := make(map[freshet.Number]bool)
	for _, p := range positions {
		if p.Topic != freshet.Follows {
			continue
		}
		n, err := freshet.ParseNumber(p.Key)
		if err != nil {
			return nil, badRequest("%s %s: %v", positionHeader, p, err)
		}
		row, err := a.Following.Row(n)
		if err != nil {
			return nil, err
		}
		if _, ok := row.Relation(followee); ok {
			written[n] = row.Follows(followee)
		}
	}
	return written, nil
}

// overlay corrects the part of a sorted list that holds the numbers from one on, below another.
func overlay(numbers []freshet.Number, written map[freshet.Number]bool, from, end freshet.Number) []freshet.Number {
	if len(written) == 0 {
		return numbers
	}
	numbers = slices.Clone(numbers)
	for n, follows := range written {
		i, there := slices.BinarySearch(numbers, n)
		switch {
		case there && !follows:
			numbers = slices.Delete(numbers, i, i+1)
		case !there && follows && n >= from && n < end:
			numbers = slices.Insert(numbers, i, n)
		}
	}
	return numbers
}

// listOf reads what a list was asked for: of which account, how much, and from where on: a number or a post id.
func (a *API) listOf(r *http.Request, kind listKind) (account freshet.Account, limit int, from uint64, err error) {
	if account, err = a.account(r, "id"); err != nil {
		return account, 0, 0, err
	}
	limit, from, err = a.place(r, kind, account.Number)
	return account, limit, from, err
}

// appendOpen appends an account, unless it is closed or not known here yet, or hides from the viewer.
func (a *API) appendOpen(items []accountItem, n freshet.Number, v viewer) ([]accountItem, error) {
	account, ok, err := a.Accounts.ByNumber(n)
	if err != nil || !ok || account.Closed {
		return items, err
	}
	if hidden, err := a.blocked(v, n); err != nil || hidden {
		return items, err
	}
	return append(items, accountItem{ID: account.ID}), nil
}
