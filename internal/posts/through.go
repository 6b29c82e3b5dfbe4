package posts

import (
	"time"

	"freshet"
)

// mostAhead is by how much the clock of an API process may be ahead of another's, and an id of the other still be taken
// for one that there may be.
const mostAhead = time.Minute

// Through is the id below which every post is in the store: the archive group has passed, in every partition of posts,
// the time of the id and as much longer as a post may take into the log. It is 0 when not all partitions are known.
func Through(progress map[int32]Progress, partitions int32, slowest time.Duration) freshet.PostID {
	var lowest time.Time
	for partition := range partitions {
		p := progress[partition]
		if p.Through.IsZero() {
			return 0
		}
		if lowest.IsZero() || p.Through.Before(lowest) {
			lowest = p.Through
		}
	}
	return freshet.FirstPostID(lowest.Add(-slowest))
}

// MayCome says whether there may be a post that is found nowhere: the store, which was asked after it had told through,
// need not have it yet, and its time is not one that is still to come.
func MayCome(id, through freshet.PostID, now time.Time) bool {
	return id >= through && id.Time().Before(now.Add(mostAhead))
}
