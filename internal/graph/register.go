package graph

import (
	"context"
	"sync"
	"time"

	"freshet"
	"freshet/emitters"
)

// registrations are the writes of one import.
type registrations struct {
	mu sync.Mutex
	// last is the last registration whose account's number leads from one partition of the directory to another: rows
	// that are written from one partition to another arrive in the order of the registrations, so that its arrival is
	// proof of all before it.
	last map[[2]int32]registered
}

type registered struct {
	id     freshet.AccountID
	offset int64
}

func (r *registrations) add(id freshet.AccountID, at emitters.Position, partitions int32) {
	number := freshet.NumberAt(at.Partition, at.Offset)
	between := [2]int32{at.Partition, freshet.PartitionOf(freshet.NumberKey(number), partitions)}
	r.mu.Lock()
	defer r.mu.Unlock()
	if at.Offset >= r.last[between].offset {
		r.last[between] = registered{id, at.Offset}
	}
}

// register registers the accounts that the directory does not know, and finds everybody's number.
func (i *importer) register(ctx context.Context) error {
	accounts := i.graph.Accounts
	var missing []uint32
	for place, id := range accounts {
		known, err := i.find(uint32(place), id)
		if err != nil {
			return err
		}
		if known {
			i.summary.AccountsKnown++
		} else {
			missing = append(missing, uint32(place))
			i.made[place] = true
		}
	}
	made := registrations{last: map[[2]int32]registered{}}
	w := i.writes(StageRegister, len(missing))
	now := time.Now()
	for _, place := range missing {
		id := accounts[place]
		err := i.writers.RegisterAsync(ctx, id, now, nil, w.begin(1, func(at emitters.Position) {
			made.add(id, at, i.partitions)
		}))
		if err != nil {
			return i.failed(ctx, err)
		}
	}
	if err := w.wait(ctx); err != nil {
		return i.failed(ctx, err)
	}
	i.summary.AccountsNew = len(missing)
	return i.resolve(ctx, missing, made.last)
}

// find looks an account up; false if the directory does not know it.
func (i *importer) find(place uint32, id freshet.AccountID) (bool, error) {
	account, known, err := i.copies.accounts.ByID(id)
	if err != nil || !known {
		return false, err
	}
	i.numbers[place] = account.Number
	if account.Closed {
		i.closed[place] = true
	}
	return true, nil
}

// resolve waits until the directory shows the accounts, by their ids and by their numbers. The number is the
// directory's and not that of the registration, because somebody else may have registered the id meanwhile.
func (i *importer) resolve(ctx context.Context, missing []uint32, last map[[2]int32]registered) error {
	err := i.poll(ctx, StageDirect, len(missing), func(done int) (int, bool, error) {
		known, err := i.find(missing[done], i.graph.Accounts[missing[done]])
		if known {
			done++
		}
		return done, known, err
	})
	if err != nil {
		return err
	}
	for _, r := range last {
		if _, err := i.copies.accounts.AwaitRegistration(ctx, r.id, r.offset); err != nil {
			return i.failed(ctx, err)
		}
	}
	return nil
}
