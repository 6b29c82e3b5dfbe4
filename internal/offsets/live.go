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

// owner is a process of a running group, and what of a plan it has to do.
type owner struct {
	url       string
	positions []admin.Position
}

// awaitClaims tells which process owns what of that which is to be moved. Between two sessions none owns anything for a
// moment.
func awaitClaims(ctx context.Context, p Plan, urls []string) ([]owner, error) {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	for {
		owners, missing, idle := []owner{}, p.Changes(), false
		for _, url := range urls {
			o := owner{url: strings.TrimRight(url, "/")}
			claims, err := claimsOf(ctx, p.Group, o.url)
			if err != nil {
				return nil, err
			}
			idle = idle || len(claims) == 0
			missing = slices.DeleteFunc(missing, func(m Move) bool {
				owned := slices.ContainsFunc(claims, func(c admin.Claim) bool {
					return c.Topic == m.Topic && c.Partition == m.Partition
				})
				if owned {
					o.positions = append(o.positions, admin.Position{Topic: m.Topic, Partition: m.Partition, Offset: m.New})
				}
				return owned
			})
			if len(o.positions) > 0 {
				owners = append(owners, o)
			}
		}
		if len(missing) == 0 {
			return owners, nil
		}
		list := make([]string, len(missing))
		for i, m := range missing {
			list[i] = fmt.Sprintf("%s/%d", m.Topic, m.Partition)
		}
		const help = "name the operators' listeners of all its processes, or stop the group"
		if !idle {
			return nil, fmt.Errorf("the processes at %s do not own partitions %s, others do; %s",
				strings.Join(urls, ", "), strings.Join(list, ", "), help)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("the processes at %s own no partition, or not %s; %s",
				strings.Join(urls, ", "), strings.Join(list, ", "), help)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// seek asks the processes, one after another, to move the group, and returns when the offsets are committed. What one
// is asked is done wholly or not at all.
func seek(ctx context.Context, p Plan, owners []owner) error {
	for i, o := range owners {
		data, err := json.Marshal(admin.Seek{Positions: o.positions})
		if err != nil {
			return fmt.Errorf("encode the seek: %w", err)
		}
		ctx, cancel := context.WithTimeout(ctx, seekTimeout)
		_, err = ask(ctx, http.MethodPost, o.url+admin.SeekPath(p.Group), data)
		cancel()
		if err != nil {
			return fmt.Errorf("move the running group %s: %d of %d processes have done it, the one at %s has not: %w",
				p.Group, i, len(owners), o.url, err)
		}
	}
	return nil
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
