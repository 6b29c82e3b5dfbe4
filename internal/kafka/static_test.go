package kafka

import (
	"testing"

	"github.com/lovoo/goka"
)

// A process with a name finds its partition where it was, and the spare is not disturbed; one without a name gives it
// up when it stops.
func TestSpareAndName(t *testing.T) {
	t.Parallel()
	for name, named := range map[string]bool{"with a name": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, 1, "posts")
			member := func(own string) *Group {
				return c.group("g", func(cfg *GroupConfig) {
					cfg.Config = testConfig("g")
					if named {
						cfg.Config.Consumer.Group.InstanceId = own
					}
				})
			}
			input := edges(textInput("posts", func(goka.Context, any) {}))
			owner, spare := member("owner"), member("spare")
			runs := map[*Group]*running{owner: c.start(owner, "g", input)}
			await(t, "the first has the partition", func() bool { return len(owner.Assignment()) == 1 })
			runs[spare] = c.start(spare, "g", input)
			await(t, "one has the partition, and one is idle", func() bool {
				return len(owner.Assignment())+len(spare.Assignment()) == 1 && owner.Idle() != spare.Idle()
			})
			if owner.Idle() {
				owner, spare = spare, owner
			}
			before := spare.Session()
			if err := runs[owner].stop(); err != nil {
				t.Fatal(err)
			}
			if !named {
				await(t, "the spare has the partition", func() bool { return len(spare.Assignment()) == 1 })
				return
			}
			c.start(owner, "g", input)
			await(t, "the owner has the partition again", func() bool { return len(owner.Assignment()) == 1 })
			if spare.Session() != before || !spare.Idle() {
				t.Errorf("the spare was disturbed: session %d, then %d", before, spare.Session())
			}
		})
	}
}
