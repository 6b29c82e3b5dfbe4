package offsets

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"freshet/internal/admin"
)

const (
	// adminTimeout is how long a process may take to list its groups.
	adminTimeout = 5 * time.Second
	// seekTimeout bounds a seek: a session may take a minute to hand its partitions over.
	seekTimeout = 90 * time.Second
	// settleTimeout is how long a group that is between two sessions is waited for.
	settleTimeout = 15 * time.Second
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
	return fmt.Sprintf("group %s is running, and while it is, only its own process can move it: %v; its members: %s",
		e.Group, e.Reason, strings.Join(members, ", "))
}

func (e *LiveError) Unwrap() error { return e.Reason }

// Execute carries a plan out, all of it, and says how. A group without members is committed for; one that runs is told
// to seek through the operators' listener of its process, at the URL adminURL, and goes on from there at once. The
// error is a *LiveError when the group has members elsewhere; nothing has been moved then.
func (c *Cluster) Execute(ctx context.Context, p Plan, adminURL string) (how string, err error) {
	if len(p.Refused) > 0 {
		return "", fmt.Errorf("the plan is refused: %s", strings.Join(p.Refused, "; "))
	}
	ctx, cancel := context.WithTimeout(ctx, seekTimeout+settleTimeout+workTimeout)
	defer cancel()
	g, err := c.describe(ctx, p.Group)
	if err != nil {
		return "", err
	}
	if len(g.Members) == 0 {
		return "committed for the stopped group", c.commit(ctx, p)
	}
	adminURL = strings.TrimRight(adminURL, "/")
	if err := awaitClaims(ctx, p, adminURL); err != nil {
		return "", &LiveError{Group: p.Group, Members: g.Members, Reason: err}
	}
	return "the running group went there and goes on", seek(ctx, p, adminURL)
}

// commit commits for a group without members, and reads it back.
func (c *Cluster) commit(ctx context.Context, p Plan) error {
	var offsets kadm.Offsets
	for _, m := range p.Changes() {
		offsets.AddOffset(p.Topic, m.Partition, m.New, -1)
	}
	committed, err := c.adm.CommitOffsets(ctx, p.Group, offsets)
	if err != nil {
		return fmt.Errorf("commit the offsets of group %s: %w; list them to see which were taken", p.Group, err)
	}
	var errs []error
	for _, m := range p.Changes() {
		answer, ok := committed.Lookup(p.Topic, m.Partition)
		switch {
		case !ok:
			errs = append(errs, fmt.Errorf("partition %d: no answer", m.Partition))
		case errors.Is(answer.Err, kerr.UnknownMemberID), errors.Is(answer.Err, kerr.RebalanceInProgress):
			errs = append(errs, fmt.Errorf("partition %d: the group has been started meanwhile: %w", m.Partition, answer.Err))
		case answer.Err != nil:
			errs = append(errs, fmt.Errorf("partition %d: %w", m.Partition, answer.Err))
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("commit the offsets of group %s: %d of %d partitions did not move: %w", p.Group, len(errs),
			len(p.Changes()), errors.Join(errs...))
	}
	return c.verify(ctx, p)
}

func (c *Cluster) verify(ctx context.Context, p Plan) error {
	standings, err := c.standings(ctx, p.Group, p.Topic)
	if err != nil {
		return fmt.Errorf("committed, but not read back: %w", err)
	}
	for _, m := range p.Changes() {
		for _, s := range standings {
			if s.Partition == m.Partition && s.Committed != m.New {
				return fmt.Errorf("group %s: offset %d was committed in partition %d of %s, and now it is at %d: has it been "+
					"started meanwhile? Plan again", p.Group, m.New, m.Partition, p.Topic, s.Committed)
			}
		}
	}
	return nil
}

// seek asks the process behind the operators' listener to move its group, and returns when the offsets are committed.
func seek(ctx context.Context, p Plan, adminURL string) error {
	var body admin.Seek
	for _, m := range p.Changes() {
		body.Positions = append(body.Positions, admin.Position{Topic: p.Topic, Partition: m.Partition, Offset: m.New})
	}
	data, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encode the seek: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, seekTimeout)
	defer cancel()
	if _, err = ask(ctx, http.MethodPost, adminURL+admin.SeekPath(p.Group), data); err != nil {
		return fmt.Errorf("move the running group %s: %w", p.Group, err)
	}
	return nil
}

// awaitClaims returns when the process owns what is to be moved. Between two sessions it owns nothing for a moment.
func awaitClaims(ctx context.Context, p Plan, adminURL string) error {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	for {
		claims, err := claimsOf(ctx, p.Group, adminURL)
		if err != nil {
			return err
		}
		var missing []int32
		for _, m := range p.Changes() {
			if !slices.ContainsFunc(claims, func(c admin.Claim) bool {
				return c.Topic == p.Topic && c.Partition == m.Partition
			}) {
				missing = append(missing, m.Partition)
			}
		}
		if len(missing) == 0 {
			return nil
		}
		if len(claims) > 0 {
			return fmt.Errorf("the process at %s does not own partitions %v of %s, others do; stop the group to move it",
				adminURL, missing, p.Topic)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the process at %s owns no partition of the group; stop the group to move it", adminURL)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func claimsOf(ctx context.Context, group, adminURL string) ([]admin.Claim, error) {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	answer, err := ask(ctx, http.MethodGet, adminURL+admin.GroupsPath, nil)
	if err != nil {
		return nil, err
	}
	var groups []admin.Group
	if err := json.Unmarshal(answer, &groups); err != nil {
		return nil, fmt.Errorf("%s%s is not the operators' listener of freshet: %w", adminURL, admin.GroupsPath, err)
	}
	for _, g := range groups {
		if g.Group == group {
			return g.Claims, nil
		}
	}
	return nil, fmt.Errorf("the group does not run in the process at %s; name the operators' listener of the process in "+
		"which it does, or stop the group", adminURL)
}

var errRefused = errors.New("refused")

func ask(ctx context.Context, method, url string, body []byte) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, url, err)
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, fmt.Errorf("the operators' listener does not answer: %w", err)
	}
	defer answer.Body.Close() //nolint:errcheck // it was read
	text, err := io.ReadAll(io.LimitReader(answer.Body, 16<<20))
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, url, err)
	}
	if answer.StatusCode >= http.StatusMultipleChoices {
		return nil, fmt.Errorf("%s %s: %w: %s: %s", method, url, errRefused, answer.Status, bytes.TrimSpace(text))
	}
	return text, nil
}
