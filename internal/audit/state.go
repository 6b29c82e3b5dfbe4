package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
)

// state is what a file remembers of an audit.
type state struct {
	// Audit is a hash of what is audited, Size how many accounts each partition had, and Next the block with which it
	// goes on.
	Audit   uint64          `json:"audit"`
	Size    map[int32]int64 `json:"size"`
	Next    int             `json:"next"`
	Summary Summary         `json:"summary"`
}

// ErrOtherAudit is returned for a state that another audit has left.
var ErrOtherAudit = errors.New("the state is of another audit: give the same accounts, sample and seed, or remove it")

// what names what is audited, by a hash.
func (a *Auditor) what() uint64 {
	h := fnv.New64a()
	fmt.Fprint(h, a.cfg.Names.Prefix, a.opts.Accounts, a.opts.Sample, a.opts.Seed)
	return h.Sum64()
}

// resume reads the state, and says with which block to go on.
func (a *Auditor) resume() (int, error) {
	if a.opts.State == "" {
		return 0, nil
	}
	data, err := os.ReadFile(a.opts.State)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	var s state
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err != nil {
		return 0, fmt.Errorf("read the state of an audit: %w", err)
	}
	if s.Audit != a.what() {
		return 0, fmt.Errorf("%s: %w", a.opts.State, ErrOtherAudit)
	}
	if a.size = s.Size; s.Summary.Differences != nil {
		a.summary = s.Summary
	}
	return s.Next, nil
}

// note writes the state: the file is always whole.
func (a *Auditor) note(next int) error {
	if a.opts.State == "" {
		return nil
	}
	data, err := json.Marshal(state{a.what(), a.size, next, a.summary})
	if err != nil {
		return err
	}
	part, err := os.CreateTemp(filepath.Dir(a.opts.State), ".audit-*")
	if err == nil {
		_, err = part.Write(data)
		err = errors.Join(err, part.Close())
		if err == nil {
			err = os.Rename(part.Name(), a.opts.State)
		}
	}
	if err != nil {
		return fmt.Errorf("note how far the audit is: %w", err)
	}
	return nil
}
