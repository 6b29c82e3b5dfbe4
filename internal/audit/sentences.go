package audit

import (
	"fmt"
	"time"
)

// reasons says what a difference means, by list and kind.
var reasons = map[[2]string]string{
	{ListFeed, Missing}:      "it belongs into the feed, fan-out is past it, and the feed lacks it",
	{ListFeed, Extra}:        "the feed has it, and the account did not follow the author when it came",
	{ListFeed, Misordered}:   "the feed is not newest first, each post once; the next read builds it anew",
	{ListFeed, Corrupt}:      "the feed cannot be read; the next read builds it anew",
	{ListOutbox, Missing}:    "the post store has it, fan-out is past it, and the author's outbox lacks it",
	{ListOutbox, Corrupt}:    "the outbox cannot be read; whoever reads it next has its zone recovered",
	{ListTree, Missing}:      "the row says that the follower is in the author's tree, and the tree lacks it",
	{ListTree, Extra}:        "the author's tree has the follower, whose row knows of no relation",
	{ListServed, Missing}:    "it belongs into the feed, and the API does not show it",
	{ListServed, Extra}:      "the API shows it, and it does not belong into the feed",
	{ListServed, Misordered}: "the API shows it behind an older post, or twice",
}

func when(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") }

func (e *Event) place() string {
	return fmt.Sprintf("%s/%d at offset %d, %s", e.Topic, e.Partition, e.Offset, when(e.At))
}

// say puts the facts into words.
func (e *Entry) say() {
	add := func(format string, args ...any) { e.Because = append(e.Because, fmt.Sprintf(format, args...)) }
	if e.Account.Closed {
		add("%s has closed its account; nobody reads this feed.", e.Account)
	}
	if e.Author == nil {
		if e.Deleted {
			add("The post was deleted; Redis keeps that for two days, and the post store does not know the post.")
		} else {
			add("Neither Redis nor the post store knows a post %s.", e.Post)
		}
		e.Verdict = fmt.Sprintf("Post %s is not in the feed of %s: there is no such post.", e.Post, e.Account)
		if e.InFeed {
			add("Redis has it in the feed for all that; readers pass over it.")
		}
		return
	}
	e.sayRelation(add)
	e.sayPost(add)
	if e.Event != nil {
		flushed := "fan-out has not committed that offset, so it may be on its way"
		if e.Event.Flushed {
			flushed = "fan-out has committed that offset, so all of Redis has it that should"
		}
		add("It was published in %s; %s.", e.Event.place(), flushed)
	} else {
		add("Its event is not in the log any more.")
	}
	e.sayPlace(add)
	e.Verdict = e.verdict()
}

func (e *Entry) sayRelation(add func(string, ...any)) {
	switch {
	case e.Account.Number == e.Author.Number:
		add("%s wrote it.", e.Account)
		return
	case e.Follows && e.SinceAt != nil:
		add("%s follows %s since %s (%s).", e.Account, e.Author, when(e.Since), e.SinceAt.place())
	case e.Follows:
		add("%s follows %s.", e.Account, e.Author)
	case e.LeftAt != nil:
		add("%s does not follow %s any more, since %s.", e.Account, e.Author, e.LeftAt.place())
	default:
		add("%s does not follow %s, and never has.", e.Account, e.Author)
	}
	if e.Follows && !e.Applied {
		add("The tree of %s has yet to report %s; until then readers merge the outbox.", e.Author, e.Account)
	}
	if e.Follows && e.Applied && !e.TreeHolds {
		add("The tree of %s lacks %s, though it has reported it.", e.Author, e.Account)
	}
	if !e.Follows && e.TreeHolds {
		add("The tree of %s holds %s all the same.", e.Author, e.Account)
	}
	for _, hidden := range []struct {
		is   bool
		says string
	}{
		{e.Mutes, fmt.Sprintf("%s mutes %s.", e.Account, e.Author)},
		{e.Blocks, fmt.Sprintf("%s blocks %s.", e.Account, e.Author)},
		{e.BlockedBy, fmt.Sprintf("%s blocks %s.", e.Author, e.Account)},
		{e.Author.Closed, fmt.Sprintf("%s has closed its account.", e.Author)},
	} {
		if hidden.is {
			add("%s", hidden.says)
		}
	}
}

func (e *Entry) sayPost(add func(string, ...any)) {
	switch {
	case e.DeletedBy != nil:
		add("The post was deleted in %s.", e.DeletedBy.place())
	case e.Deleted:
		add("The post was deleted.")
	}
	if !e.Edited.IsZero() {
		add("The post was edited at %s.", when(e.Edited))
	}
	if e.Visibility != "" {
		add("Its visibility is %s.", e.Visibility)
	}
	switch e.Tier {
	case Pushed:
		add("Posts of %s are delivered to this feed by its tree.", e.Author)
	case Pulled:
		add("%s is pulled: its posts are in its outbox, and readers merge that.", e.Author)
	case Merged:
		add("Posts of %s are merged from its outbox when this feed is read.", e.Author)
	}
}

func (e *Entry) sayPlace(add func(string, ...any)) {
	has := func(is bool, where string) string {
		if is {
			return "is in " + where
		}
		return "is not in " + where
	}
	switch e.Feed {
	case Cold:
		add("The feed is cold: nothing is kept of it, and the next read builds it from outboxes.")
	case Building:
		add("A reader is building the feed.")
	case Recovering:
		add("Redis has lost something of the feed's zone, which is being recovered.")
	case Lost:
		add("Redis has lost the feed's zone, and nobody has recovered it yet.")
	default:
		add("In Redis it %s.", has(e.InFeed, "the feed"))
	}
	if e.Full && e.Created.Before(e.Floor.Time()) {
		add("The feed is full, and what is older than %s is read from the post store.", when(e.Floor.Time()))
	}
	add("It %s, and it %s.", has(e.InOutbox, "the author's outbox"), has(e.InStore, "the post store"))
}

func (e *Entry) verdict() string {
	post := fmt.Sprintf("Post %s by %s", e.Post, e.Author)
	switch {
	case e.Belongs && e.Found:
		return fmt.Sprintf("%s is in the feed of %s, as it should be.", post, e.Account)
	case e.Belongs && e.Event != nil && !e.Event.Flushed:
		return fmt.Sprintf("%s belongs into the feed of %s and is on its way.", post, e.Account)
	case e.Belongs && (e.Feed == Recovering || e.Feed == Lost || e.Feed == Building):
		return fmt.Sprintf("%s belongs into the feed of %s, which is being made.", post, e.Account)
	case e.Belongs && e.Feed == Warm && e.InOutbox:
		return fmt.Sprintf("%s belongs into the feed of %s and is missing; freshet rebuild feeds %s brings it back.",
			post, e.Account, e.Account)
	case e.Belongs:
		return fmt.Sprintf("%s belongs into the feed of %s and is missing; fan-out has to read it again "+
			"(freshet offsets reset).", post, e.Account)
	case e.InFeed:
		return fmt.Sprintf("%s does not belong into the feed of %s. Redis has it there, and readers are not shown it.",
			post, e.Account)
	}
	return fmt.Sprintf("%s does not belong into the feed of %s and is not there.", post, e.Account)
}
