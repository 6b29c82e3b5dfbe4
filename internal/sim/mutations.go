package sim

// Mutation is a run without one of the rules: the real code runs, and what stands around it spoils an operation, an
// answer or a step, as if the rule were not there.
type Mutation struct {
	Name string
	// Focus is the kind of run in which the rule is needed most.
	Focus string
	// Harmless says, of a rule without which no run has failed, what stands in for it; empty for a rule that has to be
	// missed.
	Harmless string
}

// Mutations lists the rules that can be switched off.
var Mutations = []Mutation{
	{Name: "no barrier before a report", Focus: "aim append outbox: follow"},
	{Name: "a child is opened while a flush is under way", Focus: "aim append outbox: follow"},
	{Name: "report before the table and the flush", Focus: "followers"},
	{Name: "no hold until followers"},
	{Name: "commit before watermark"},
	{Name: "watermark before the data", Focus: "losses"},
	{Name: "no counter check", Focus: "deletes"},
	{Name: "ignore the token in PutBody", Focus: "aim body: delete, flushall"},
	{Name: "ignore the token in RewriteOutbox", Focus: "aim outbox: post, flushall"},
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
	{Name: "no generation check", Focus: "deletes"},
	{Name: "log compared by its length"},
	{Name: "outbox compared by its length", Focus: "aim outbox: trim"},
	{Name: "tombstone overwritten", Focus: "deletes"},
	{Name: "body written though stored", Focus: "deletes"},
	{Name: "an older body over a later one", Focus: "aim body: edit"},
	{Name: "an edit leaves a stored post's body", Focus: "bodies"},
	{Name: "table on disk ahead of the changelog", Focus: "hosts"},
	{Name: "tables without fences", Focus: "zombies"},
	{Name: "foreign rows go unnoticed", Focus: "zombies"},
	{Name: "commits out of order", Focus: "followers"},
	{Name: "no outbox entry from children"},
	{Name: "outbox after the logs", Focus: "aim append outbox: follow"},
	{Name: "recovering only in lost zones"},
	{
		Name: "lost zones renewed first", Focus: "aim recover: die",
		Harmless: "A recovery that was cut short leaves tokens of two numbers, in whatever order it went, and whoever " +
			"looks next takes the older ones for lost and begins again. Until then the loss is as good as not noticed, " +
			"in either order. Without the numbers the order is all there is; they need no luck, so they are the rule.",
	},
	{Name: "do not go back", Focus: "redis"},
	{Name: "another writer's recovery ignored", Focus: "redis"},
	{Name: "positions of old sessions noted"},
	{Name: "looking again hides a loss", Focus: "aim note: lose, away"},
	{Name: "tokens without an order"},
	{Name: "no watermarks in a new zone"},
	{Name: "a feed built from an outbox in a lost zone"},
	{Name: "build without marking", Focus: "feeds"},
	{
		Name: "row read before the mark", Focus: "aim mark: follow",
		Harmless: "The header names the version of the row from which the outboxes were chosen, and they are read after " +
			"the mark. A follow that this row lacks, or has as not applied, is applied at a later version, and so every " +
			"read adds that author's outbox. Reading the row late only spares such reads.",
	},
	{Name: "a build ends whoever's it is", Focus: "aim read block: cold, post, compact, read"},
	{Name: "bodies trusted while recovering", Focus: "followers"},
	{Name: "the store trusted while recovering", Focus: "bodies"},
	{Name: "no look for tombstones below the floor", Focus: "bodies"},
	{Name: "complete though the view is behind"},
	{Name: "complete though a zone recovers", Focus: "accounts"},
	{Name: "a contradiction is left alone"},
	{Name: "report compared without its version"},
	{Name: "an empty outbox begins every other", Focus: "aim outbox: trim"},
	{Name: "counter moved after the watermarks were read"},
	{Name: "a corrupt outbox is loaded anew"},
	{Name: "a zone lost twice looks lost once", Focus: "aim recover: delete, flushall"},
	{Name: "applied without a report"},
	{Name: "removal stops at the page that held"},
	{Name: "posts of closed accounts shown", Focus: "accounts"},
	{Name: "a step back of the clock is not waited out"},
	{Name: "tombstone before the log", Focus: "bodies"},
	{Name: "no slack before authors are pulled", Focus: "tiers"},
	{Name: "slack from before the acknowledgement", Focus: "tiers"},
	{Name: "authors who left pull are forgotten", Focus: "tiers"},
	{Name: "complete though the view of tiers is behind", Focus: "tiers"},
}
