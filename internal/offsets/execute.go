package offsets

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// LiveError says that a group has members that could not be asked to move.
type LiveError struct {
	Group   string
	Members []Member
	Reason  error
}

func (e *LiveError) Error() string {
	members := make([]string, len(e.Members))
	for i, m := range e.Members {
		members[i] = m.String()
	}
	return fmt.Sprintf("group %s is running, and while it is, only its own processes can move it: %v; its members: %s",
		e.Group, e.Reason, strings.Join(members, ", "))
}

func (e *LiveError) Unwrap() error { return e.Reason }

// ChangedError says that the group is no longer what the plan was made for. Nothing was moved.
type ChangedError struct{ Group, What string }

func (e *ChangedError) Error() string {
	return fmt.Sprintf("group %s is not as it was when the plan was made: %s; plan again", e.Group, e.What)
}

// Execution is how a plan is carried out.
type Execution struct {
	// Admins are the URLs of the operators' listeners of the processes in which the group runs, if it does.
	Admins []string
	// Undo is given where the group stood in the partitions that are about to be moved, before any is. An error keeps them
	// from being moved.
	Undo func(before []Row) error
}

// Execute carries a plan out, exactly as it is, and says how. The plan is checked once more: the group has to have the
// same members, the offsets still have to be in their partitions' range, and a stopped group has to stand where it
// stood; else the error is a *ChangedError. A group without members is committed for, and that is read back. One that
// runs is told to seek, through its processes, which commit and read back before they go on; the error is a *LiveError
// when the group has members elsewhere. In both cases nothing has been moved. What has been when a later step fails,
// the error says.
func (c *Cluster) Execute(ctx context.Context, p Plan, e Execution) (how string, err error) {
	if len(p.Refused) > 0 {
		return "", fmt.Errorf("the plan is refused: %s", strings.Join(p.Refused, "; "))
	}
	ctx, cancel := context.WithTimeout(ctx, seekTimeout+settleTimeout+workTimeout)
	defer cancel()
	g, err := c.describe(ctx, p.Group)
	if err != nil {
		return "", err
	}
	if what := changed(p.Members, g.Members); what != "" {
		return "", &ChangedError{p.Group, what}
	}
	before, err := c.recheck(ctx, p)
	if err != nil {
		return "", err
	}
	var owners []owner
	if len(g.Members) > 0 {
		if owners, err = awaitClaims(ctx, p, e.Admins); err != nil {
			return "", &LiveError{Group: p.Group, Members: g.Members, Reason: err}
		}
	}
	if e.Undo != nil {
		if err := e.Undo(before); err != nil {
			return "", fmt.Errorf("nothing was moved, because there would be no way back: %w", err)
		}
	}
	if len(g.Members) == 0 {
		return "committed for the stopped group", c.commit(ctx, p)
	}
	if err := seek(ctx, p, owners); err != nil {
		return "", err
	}
	return "the running group went there and goes on", c.verifyRunning(ctx, p)
}

// recheck compares the plan with where the group stands now, and returns that for what will change.
func (c *Cluster) recheck(ctx context.Context, p Plan) (before []Row, err error) {
	now, err := c.standingsOf(ctx, p)
	if err != nil {
		return nil, err
	}
	var changes []string
	for _, m := range p.Changes() {
		s, ok := now[m.Topic][m.Partition]
		switch at := fmt.Sprintf("%s/%d", m.Topic, m.Partition); {
		case !ok:
			changes = append(changes, at+" is not there any more")
		case m.New < s.Start || m.New > s.End:
			changes = append(changes, fmt.Sprintf("%s now has %d to %d, and %d is not in it", at, s.Start, s.End, m.New))
		case len(p.Members) == 0 && s.Committed != m.Committed:
			changes = append(changes, fmt.Sprintf("it stood at %s in %s, and now at %s", orDash(m.Committed), at,
				orDash(s.Committed)))
		}
		before = append(before, Row{p.Group, m.Topic, m.Partition, s.Position()})
	}
	if len(changes) > 0 {
		return nil, &ChangedError{p.Group, strings.Join(changes, ", ")}
	}
	return before, nil
}

// standingsOf is where the group stands in the plan's topics.
func (c *Cluster) standingsOf(ctx context.Context, p Plan) (map[string]map[int32]Standing, error) {
	found := map[string]map[int32]Standing{}
	for _, m := range p.Moves {
		if found[m.Topic] != nil {
			continue
		}
		standings, err := c.standings(ctx, p.Group, m.Topic)
		if err != nil {
			return nil, err
		}
		found[m.Topic] = map[int32]Standing{}
		for _, s := range standings {
			found[m.Topic][s.Partition] = s
		}
	}
	return found, nil
}

// commit commits for a group without members, and reads it back.
func (c *Cluster) commit(ctx context.Context, p Plan) error {
	var offsets kadm.Offsets
	for _, m := range p.Changes() {
		offsets.AddOffset(m.Topic, m.Partition, m.New, -1)
	}
	committed, err := c.adm.CommitOffsets(ctx, p.Group, offsets)
	if err != nil {
		return fmt.Errorf("commit the offsets of group %s: %w; list them to see which were taken", p.Group, err)
	}
	var errs []error
	started := false
	for _, m := range p.Changes() {
		answer, ok := committed.Lookup(m.Topic, m.Partition)
		switch {
		case !ok:
			errs = append(errs, fmt.Errorf("%s/%d: no answer", m.Topic, m.Partition))
		case answer.Err != nil:
			started = started || errors.Is(answer.Err, kerr.UnknownMemberID) || errors.Is(answer.Err, kerr.RebalanceInProgress)
			errs = append(errs, fmt.Errorf("%s/%d: %w", m.Topic, m.Partition, answer.Err))
		}
	}
	if started && len(errs) == len(p.Changes()) {
		return &ChangedError{p.Group, "it has been started meanwhile, and nothing was moved"}
	}
	if len(errs) > 0 {
		return fmt.Errorf("commit the offsets of group %s: %d of %d partitions did not move: %w", p.Group, len(errs),
			len(p.Changes()), errors.Join(errs...))
	}
	return c.verify(ctx, p, "committed", func(s Standing, m Move) bool { return s.Committed == m.New })
}

// verifyRunning reads back that the group stands where it was told to, or has come further since.
func (c *Cluster) verifyRunning(ctx context.Context, p Plan) error {
	return c.verify(ctx, p, "moved", func(s Standing, m Move) bool { return s.Committed >= m.New })
}

func (c *Cluster) verify(ctx context.Context, p Plan, done string, right func(Standing, Move) bool) error {
	now, err := c.standingsOf(ctx, p)
	if err != nil {
		return fmt.Errorf("%s, but not read back: %w", done, err)
	}
	i := slices.IndexFunc(p.Moves, func(m Move) bool { return m.Changes() && !right(now[m.Topic][m.Partition], m) })
	if i < 0 {
		return nil
	}
	m := p.Moves[i]
	return fmt.Errorf("group %s was moved to offset %d in %s/%d, and is at %d now: has it been started or moved "+
		"meanwhile? Plan again", p.Group, m.New, m.Topic, m.Partition, now[m.Topic][m.Partition].Committed)
}
