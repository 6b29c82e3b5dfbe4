package views

import (
	"sync"
	"time"

	"freshet"
	"freshet/internal/feeds"
)

const (
	// KeptFor is how long the outbox of a pulled author is kept in a process: nearly every reader merges the same few, and
	// all others may know of a post a second later than its author. A page that calls itself complete may lack posts of
	// pulled authors that are younger than that.
	KeptFor = time.Second
	// mostKept bounds the outboxes kept at once; a full one takes 6.4 kB.
	mostKept = 4096
)

// KeptOutboxes are outboxes of pulled authors that were read less than KeptFor ago. It is safe for concurrent use.
type KeptOutboxes struct {
	mu       sync.Mutex
	byAuthor map[freshet.Number]keptOutbox
}

type keptOutbox struct {
	feeds.Outbox
	readAt time.Time
}

// NewKeptOutboxes makes an empty one.
func NewKeptOutboxes() *KeptOutboxes { return &KeptOutboxes{byAuthor: map[freshet.Number]keptOutbox{}} }

// get returns what is kept of these authors' outboxes, and who has to be read.
func (k *KeptOutboxes) get(now time.Time, authors []freshet.Number) (found []feeds.Outbox, missing []freshet.Number) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, author := range authors {
		if kept, ok := k.byAuthor[author]; ok && now.Sub(kept.readAt) < KeptFor {
			found = append(found, kept.Outbox)
		} else {
			missing = append(missing, author)
		}
	}
	return found, missing
}

// put keeps outboxes whose reading began at a time. Where a zone is not well they are read anew, so that nobody waits
// for it any longer than it takes; and one that was read earlier does not replace one that was read later.
func (k *KeptOutboxes) put(readAt time.Time, authors []freshet.Number, outboxes []feeds.Outbox) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.byAuthor)+len(authors) > mostKept {
		for author, kept := range k.byAuthor {
			if readAt.Sub(kept.readAt) >= KeptFor {
				delete(k.byAuthor, author)
			}
		}
	}
	for i, author := range authors {
		kept, known := k.byAuthor[author]
		if outboxes[i].State.Well() && (known && kept.readAt.Before(readAt) || !known && len(k.byAuthor) < mostKept) {
			k.byAuthor[author] = keptOutbox{outboxes[i], readAt}
		}
	}
}
