package sim

// Mutation is a run without one of the rules: the real code runs, and what stands around it spoils an operation, an
// answer or a step, as if the rule were not there.
type Mutation struct {
	Name string
	// Focus is the kind of run in which the rule is needed most.
	Focus string
	// Seed is the first seed to try.
	Seed uint64
	// Told: it is a story (see Stories) that ends badly without the rule, because chance takes too long.
	Told bool
	// Harmless says, of a rule without which no run has failed, what stands in for it; empty for a rule that has to be
	// missed.
	Harmless string
}

// Mutations lists the rules that can be switched off.
var Mutations = []Mutation{
	{Name: "no barrier before a report", Focus: "aim append outbox: follow", Seed: 46},
	{Name: "report before the table and the flush", Focus: "followers", Seed: 79},
	{Name: "no hold until followers", Told: true},
	{Name: "commit before watermark", Told: true},
	{Name: "watermark before the data", Focus: "losses", Seed: 107},
	{Name: "no counter check", Focus: "deletes", Seed: 35},
	{Name: "ignore the token in PutBody", Focus: "aim body: delete, flushall", Seed: 27},
	{Name: "ignore the token in RewriteOutbox", Focus: "aim outbox: post, flushall", Seed: 42},
	{
		Name: "ignore the token in SwapFeed", Focus: "aim feed: lose",
		Harmless: "The swap names a generation, which is random: it stands for one value of the block's feeds, with or " +
			"without a loss in between. What a read adds to that value are posts that exist, from outboxes as they were; " +
			"entries that the log has lost are delivered again, to the log. A build looks at the token itself, twice. " +
			"What the script's own look saves is a mark in a zone that was just lost, which makes others wait for a lease.",
	},
	{
		Name: "ignore the token in Compact", Focus: "aim compact: lose",
		Harmless: "What is written follows from the feeds and the beginning of the log alone, and the generation and the " +
			"log as it was read name both: if they are there, it is right to write this, whatever was lost meanwhile. A " +
			"block that never had a feed has no generation, but then nothing is written, and the entries that are cut " +
			"are of cold accounts.",
	},
	{Name: "no generation check", Focus: "deletes", Seed: 0},
	{Name: "log compared by its length", Told: true},
	{Name: "outbox compared by its length", Focus: "aim outbox: trim", Seed: 4},
	{Name: "tombstone overwritten", Focus: "deletes", Seed: 2},
	{Name: "body written though stored", Focus: "deletes", Seed: 9},
	{Name: "an older body over a later one", Focus: "aim body: edit", Seed: 27},
	{Name: "an edit leaves a stored post's body", Focus: "bodies", Seed: 20},
	{Name: "table on disk ahead of the changelog", Focus: "hosts", Seed: 65},
	{Name: "tables without fences", Focus: "zombies", Seed: 1},
	{Name: "foreign rows go unnoticed", Focus: "zombies", Seed: 92},
	{Name: "commits out of order", Focus: "followers", Seed: 1},
	{Name: "no outbox entry from children", Told: true},
	{Name: "outbox after the logs", Focus: "aim append outbox: follow", Seed: 79},
	{Name: "recovering only in lost zones", Told: true},
	{
		Name: "lost zones renewed first", Focus: "aim recover: die",
		Harmless: "A recovery that was cut short leaves tokens of two numbers, in whatever order it went, and whoever " +
			"looks next takes the older ones for lost and begins again. Until then the loss is as good as not noticed, " +
			"in either order. Without the numbers the order is all there is; they need no luck, so they are the rule.",
	},
	{Name: "do not go back", Focus: "redis", Seed: 7},
	{Name: "another writer's recovery ignored", Focus: "redis", Seed: 61},
	{Name: "positions of old sessions noted", Seed: 15},
	{Name: "looking again hides a loss", Focus: "aim note: lose, away", Seed: 20},
	{Name: "tokens without an order", Told: true},
	{Name: "no watermarks in a new zone", Told: true},
	{Name: "a feed built from an outbox in a lost zone", Told: true},
	{Name: "build without marking", Focus: "feeds", Seed: 13},
	{
		Name: "row read before the mark", Focus: "aim mark: follow",
		Harmless: "The header names the version of the row from which the outboxes were chosen, and they are read after " +
			"the mark. A follow that this row lacks, or has as not applied, is applied at a later version, and so every " +
			"read adds that author's outbox. Reading the row late only spares such reads.",
	},
	{Name: "a build ends whoever's it is", Focus: "aim read block: cold, post, compact, read", Seed: 20},
	{Name: "bodies trusted while recovering", Focus: "followers", Seed: 4},
	{Name: "the store trusted while recovering", Focus: "bodies", Seed: 5},
	{Name: "no look for tombstones below the floor", Focus: "bodies", Seed: 135},
	{Name: "complete though the view is behind", Told: true},
	{Name: "complete though a zone recovers", Focus: "accounts", Seed: 53},
	{Name: "a contradiction is left alone", Told: true},
	{Name: "report compared without its version", Told: true},
	{Name: "an empty outbox begins every other", Focus: "aim outbox: trim", Seed: 15},
	{Name: "counter moved after the watermarks were read", Told: true},
	{Name: "a corrupt outbox is loaded anew", Told: true},
	{Name: "a zone lost twice looks lost once", Focus: "aim recover: delete, flushall", Seed: 6},
	{Name: "applied without a report", Seed: 21},
	{Name: "removal stops at the page that held", Told: true},
	{Name: "posts of closed accounts shown", Focus: "accounts"},
	{Name: "a step back of the clock is not waited out", Told: true},
	{Name: "tombstone before the log", Focus: "bodies", Seed: 1},
	{Name: "no slack before authors are pulled", Focus: "tiers", Seed: 217},
	{Name: "slack from before the acknowledgement", Focus: "tiers", Seed: 441},
	{Name: "authors who left pull are forgotten", Focus: "tiers", Seed: 1},
	{Name: "complete though the view of tiers is behind", Focus: "tiers", Seed: 37},
}
