package feeds

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Positions is what a writer must know of its inputs to decide how far to go back.
type Positions struct {
	// Committed is the committed offset of each input partition that the writer owns; -1 where nothing was committed.
	Committed map[Input]int64
	// Stored is, for each partition of posts, the offset below which the post store has everything.
	Stored map[int32]int64
}

// Known is what a writer remembers of a zone: the token, and the counter that Redis last acknowledged to it. The token
// is empty before the writer has opened the zone.
type Known struct {
	Token   string
	Counter int64
}

// Decision is what follows from opening every zone.
type Decision struct {
	// Lost lists the zones of which Redis has lost something that it had acknowledged.
	Lost []Zone
	// Changed: another writer has recovered a zone since this one opened it.
	Changed bool
	// Back is the offset from which each input partition has to be processed again: never above the committed one.
	// Partitions without a committed offset are not in it: they begin at the beginning anyway.
	Back map[Input]int64
	// Marked is the lowest watermark of each input partition that has one and no committed offset: the group has been away
	// for so long that Kafka has forgotten its offsets. What was removed from there on was never delivered.
	Marked map[Input]int64
}

// Again says that positions reached so far are worth nothing: the writer has to go back.
func (d Decision) Again() bool { return len(d.Lost) > 0 || d.Changed }

// Tokens begin with a number that grows with each recovery, so that a token which Redis has brought back from an old
// snapshot is told from one that another writer has made.

func nextToken(number uint64, name string) string {
	return strconv.FormatUint(number+1, 10) + "-" + name
}

// tokenNumber is 0 for the empty token and for one that no recovery has made.
func tokenNumber(token string) uint64 {
	head, _, _ := strings.Cut(token, "-")
	n, err := strconv.ParseUint(head, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// newestNumber is the highest number of all tokens that the writer knows of.
func newestNumber(known []Known, opened []*Open) uint64 {
	var n uint64
	for _, k := range known {
		n = max(n, tokenNumber(k.Token))
	}
	for _, zone := range opened {
		n = max(n, tokenNumber(zone.Token))
	}
	return n
}

// Decide compares what a writer knows of the zones with what it found when it opened them. A zone has lost something
// when its token is gone, or older than another zone's, or than one that the writer has seen (a recovery gives every
// zone a new token, so one that has an older token has lost that, or was left behind by a recovery that was cut short);
// when the writer's counter there is lower than Redis has acknowledged; or when a watermark there is below a committed
// offset, because offsets are committed only after every zone has noted them (whoever noted them may be gone, so this
// is all that is left to see it by).
//
// The writer goes back to the lowest watermark of all zones. A zone without one for a partition has lost all there was
// of it: a post that was in it is either in the post store, from which outboxes are loaded again, or above the offset
// that the store has reached; so the lower of that and the committed offset will do. The other topics carry nothing
// that is not in posts too.
func Decide(known []Known, opened []*Open, at Positions) Decision {
	d := Decision{Back: map[Input]int64{}, Marked: map[Input]int64{}}
	for input, committed := range at.Committed {
		if committed < 0 {
			for _, zone := range opened {
				mark, ok := zone.Marks[input]
				if lowest, found := d.Marked[input]; ok && (!found || mark < lowest) {
					d.Marked[input] = mark
				}
			}
			continue
		}
		back := committed
		for _, zone := range opened {
			mark, ok := zone.Marks[input]
			if !ok {
				mark = committed
				if input.Topic == InputPosts {
					mark = min(committed, at.Stored[input.Partition])
				}
			}
			back = min(back, mark)
		}
		d.Back[input] = back
	}
	number := newestNumber(known, opened)
	for i, zone := range opened {
		before := known[i]
		older := zone.Token == "" || tokenNumber(zone.Token) < number
		lost := older || zone.Token == before.Token && zone.Counter <= before.Counter
		for input, committed := range at.Committed {
			mark, ok := zone.Marks[input]
			if committed > 0 && (!ok || mark < committed) {
				lost = true
			}
		}
		if lost {
			d.Lost = append(d.Lost, zone.Zone)
		} else if before.Token != "" && zone.Token != before.Token {
			d.Changed = true
		}
	}
	return d
}

// recoverOps turns a decision into operations: first those of the zones that are well, then those of the lost ones. A
// writer that dies in between leaves a zone that is still seen to be lost.
//
// A zone that begins anew is given watermarks for every partition of posts, of others' too: what the store has by now.
// Outboxes there are loaded from the store from now on, and once; were the zone taken back to this early state without
// watermarks, nobody could tell which posts were in the store when they were loaded.
func recoverOps(
	d Decision, opened []*Open, writer, token string, ends map[Input]int64, stored map[int32]int64,
) (well, lost []*Recover) {
	waits := maps.Clone(ends)
	maps.DeleteFunc(waits, func(_ Input, end int64) bool { return end == 0 }) // an empty partition has nothing to wait for
	first := maps.Clone(d.Back)
	for input := range ends {
		if _, ok := first[input]; !ok && input.Topic == InputPosts {
			first[input] = stored[input.Partition]
		}
	}
	for _, zone := range opened {
		op := &Recover{
			Zone: zone.Zone, Writer: writer, Old: zone.Token, New: token,
			Counter: zone.Counter, Ends: waits, Marks: d.Back,
		}
		if zone.Token == "" {
			op.Marks = first
		}
		if slices.Contains(d.Lost, zone.Zone) {
			lost = append(lost, op)
		} else {
			well = append(well, op)
		}
	}
	return well, lost
}
