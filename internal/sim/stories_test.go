package sim

import (
	"flag"
	"testing"
)

var (
	tellStory  = flag.Bool("tell", false, "print what happens in a story that ends otherwise than it should")
	storySeeds = flag.Uint64("story-seeds", 5, "how often each story is told")
)

// Each story ends well with the rule that it is about, and badly without it, whatever the seed: a story that leaves
// what matters to chance is not told well.
func TestStories(t *testing.T) {
	for _, story := range Stories {
		t.Run(story.Name, func(t *testing.T) {
			for seed := range *storySeeds {
				if v := RunStory(story, seed, "", *tellStory); v != nil {
					t.Fatalf("with the rule: %v", v)
				}
				v := RunStory(story, seed, story.Rule, *tellStory)
				switch {
				case v == nil:
					t.Fatalf("seed %d: it ends well without the rule as well: %s", seed, story.Rule)
				case v.Check == stuckScene:
					t.Fatalf("without the rule: %v", v)
				case seed == 0:
					t.Logf("without the rule: %s: %s", v.Check, v.Detail)
				}
			}
		})
	}
}
