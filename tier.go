package freshet

import "time"

// Tier is what a record of the tiers topic says of an author: whether its posts are only in its outbox, from where
// readers merge them, because it has too many followers to deliver to.
type Tier struct {
	Author Number
	Pull   bool
	// Ever: they are, or were at some time. Readers merge the outbox as long as they live.
	Ever bool
}

// PullSlack is how long posts of an author are still delivered after it was acknowledged that they are pulled, and how
// old a reader's knowledge of the pulled authors may be on a page that says that it is complete. The two have to be the
// same, in all processes of a deployment: then every reader that calls a page complete merges whatever was not
// delivered before it read. It bounds how long tiers may be behind before pages say so.
const PullSlack = 10 * time.Second
