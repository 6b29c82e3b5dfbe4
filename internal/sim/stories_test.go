package sim

import (
	"flag"
	"testing"
)

var tellStory = flag.Bool("tell", false, "print what happens in a story that ends otherwise than it should")

// Each story ends well with the rule that it is about, and badly without it.
func TestStories(t *testing.T) {
	for _, story := range Stories {
		t.Run(story.Name, func(t *testing.T) {
			if v := RunStory(story, "", *tellStory); v != nil {
				t.Errorf("with the rule: %v", v)
			}
			v := RunStory(story, story.Rule, *tellStory)
			switch {
			case v == nil:
				t.Errorf("it ends well without the rule as well: %s", story.Rule)
			case v.Check == stuckScene:
				t.Errorf("without the rule: %v", v)
			default:
				t.Logf("without the rule: %s: %s", v.Check, v.Detail)
			}
		})
	}
}
