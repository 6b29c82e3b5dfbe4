package sim

// Mutation is a run without one of the rules: the real code runs, and what stands around it spoils an operation, an
// answer or a step, as if the rule were not there.
type Mutation struct {
	Name string
	// Focus is the kind of run in which the rule is needed most.
	Focus string
	// Seed is the first seed to try.
	Seed uint64
	// Unseen says, of a rule without which no run has failed, what stands in for it or why the simulator cannot see it;
	// empty for a rule that has to be missed.
	Unseen string
}

// Mutations lists the rules that can be switched off.
var Mutations = []Mutation{
	{Name: "no barrier before a report", Focus: "aim append outbox: follow", Seed: 45},
	{Name: "report before the table and the flush", Focus: "followers", Seed: 2},
	{
		Name: "no hold until followers", Focus: "toggles",
		Unseen: "A \"no\" that is delivered again contradicts the row, which takes the relation back and has it " +
			"applied anew: the reader merges the outbox again. Only a page in between could be wrong.",
	},
	{
		Name: "commit before watermark", Focus: "aimed",
		Unseen: "At rest a watermark below a committed offset is itself the sign of a loss. Until somebody looks, a " +
			"complete page can lack a post: seen once, in 4.9 million steps of this focus; too rare for a test.",
	},
	{Name: "watermark before the data", Focus: "losses", Seed: 107},
	{Name: "no counter check", Focus: "deletes", Seed: 3},
	{Name: "ignore the token in PutBody", Focus: "aim body: delete, flushall", Seed: 27},
	{Name: "ignore the token in RewriteOutbox", Focus: "aim outbox: post, flushall", Seed: 20},
	{
		Name: "ignore the token in SwapFeed", Focus: "aim feed: lose",
		Unseen: "The generation is random, so it names one value of the block; a build ends only on its own mark; " +
			"and what is written is the union of what outboxes had. Whatever Redis lost since is delivered " +
			"again.",
	},
	{
		Name: "ignore the token in Compact", Focus: "aim compact: lose",
		Unseen: "Generation and prefix are those of what was read, so what is written is right of what is there; " +
			"entries that were lost are delivered again, to the log.",
	},
	{Name: "no generation check", Focus: "deletes", Seed: 0},
	{
		Name: "log compared by its length", Focus: "aim compact: lose",
		Unseen: "A log that has changed underneath was cut by a compaction, which draws a new generation, or " +
			"lost, which changes the token, unless the loss is not noticed yet. It needs that and a second " +
			"writer.",
	},
	{Name: "outbox compared by its length", Focus: "aim outbox: trim", Seed: 4},
	{Name: "tombstone overwritten", Focus: "deletes", Seed: 2},
	{Name: "body written though stored", Focus: "deletes", Seed: 9},
	{Name: "an older body over a later one", Focus: "aim body: edit", Seed: 27},
	{Name: "an edit leaves a stored post's body", Focus: "bodies", Seed: 12},
	{Name: "table on disk ahead of the changelog", Focus: "hosts", Seed: 65},
	{Name: "tables without fences", Focus: "zombies", Seed: 1},
	{Name: "foreign rows go unnoticed", Focus: "zombies", Seed: 92},
	{Name: "commits out of order", Focus: "followers", Seed: 1},
	{
		Name: "no outbox entry from children", Focus: "aim append outbox: follow",
		Unseen: "It takes a root's host that stands still in a flush while the child's host has reported a new " +
			"follower, who reads at once. The root's flush is asked for first, and mostly wins.",
	},
	{Name: "outbox after the logs", Focus: "aim append outbox: follow", Seed: 79},
	{
		Name: "recovering only in lost zones", Focus: "aim recover: cold, read",
		Unseen: "It takes a feed that is built in a healthy zone in the moment between the recovery and the new " +
			"delivery, and is read again in that moment.",
	},
	{
		Name: "lost zones renewed first", Focus: "aim recover: die",
		Unseen: "The numbers of tokens tell a recovery that was cut short from one that is done, whatever its " +
			"order.",
	},
	{Name: "do not go back", Focus: "redis", Seed: 3},
	{Name: "another writer's recovery ignored", Focus: "redis", Seed: 38},
	{Name: "positions of old sessions noted", Focus: "redis", Seed: 13},
	{Name: "looking again hides a loss", Focus: "aim note: lose, away", Seed: 20},
	{
		Name: "tokens without an order", Focus: "aim recover: back to here",
		Unseen: "A zone that went back further than a watermark shows it by that. The order shortens the time for " +
			"which the tombstone of a delete can be missing unnoticed, which is excused here.",
	},
	{
		Name: "no watermarks in a new zone", Focus: "aim recover: back to here",
		Unseen: "Found once by chance, before the rule: an outbox loaded in the first moments of a zone, which " +
			"goes back to these moments much later.",
	},
	{Name: "build without marking", Focus: "feeds", Seed: 13},
	{
		Name: "row read before the mark", Focus: "aim mark: follow",
		Unseen: "The header names the version of the row that was read, so relations that were applied later are " +
			"merged from outboxes all the same.",
	},
	{Name: "a build ends whoever's it is", Focus: "aim read block: cold, post, compact, read", Seed: 20},
	{Name: "bodies trusted while recovering", Focus: "followers", Seed: 4},
	{Name: "the store trusted while recovering", Focus: "bodies", Seed: 2},
	{Name: "no look for tombstones below the floor", Focus: "bodies", Seed: 20},
	{
		Name: "complete though the view is behind",
		Unseen: "A follow that the process' row does not have is not owed to the reader, by the definition of " +
			"due; the simulator cannot see what it protects.",
	},
	{Name: "complete though a zone recovers", Focus: "aimed", Seed: 38},
	{
		Name: "report compared without its version", Focus: "zombies",
		Unseen: "The \"no\" that comes after an old \"yes\" contradicts the row, as above.",
	},
	{Name: "an empty outbox begins every other", Focus: "aim outbox: trim", Seed: 15},
	{
		Name: "counter moved after the watermarks were read", Focus: "aim note: lose",
		Unseen: "What is lost in the moment between shows by a watermark below a committed offset when the zones " +
			"are opened next, and what is not committed comes again.",
	},
	{Name: "a zone lost twice looks lost once", Focus: "aim recover: delete, flushall", Seed: 6},
	{Name: "applied without a report", Seed: 2},
	{
		Name: "removal stops at the page that held", Focus: "toggles",
		Unseen: "It takes a follower in two places: a child that was told by a row that was lost, and room in the " +
			"parent when the message came again. Such trees have not come up; tests of the tree build one.",
	},
	{Name: "tombstone before the log", Focus: "bodies", Seed: 1},
}
