package sim

import (
	"flag"
	"maps"
	"slices"
	"testing"
)

var (
	onlyMutation  = flag.String("mutation", "", "the only mutation to try")
	onlyFocus     = flag.String("focus", "", "a focus to try mutations in instead of their own; \"all\" for every one")
	mutationSeeds = flag.Int("mutation-seeds", 200, "how many seeds a mutation has to be missed in")
)

const mutationSteps = 6000

// Each rule that is switched off has to be missed: a run in which everything went well goes wrong without it.
// TestStories tells how, of most of them. Chance finds the others in any row of seeds after 20,000 steps or so, 135,000
// at worst, so that says of random runs that they find something; of the rules that stories are about some take
// millions of steps. These are left to chance only when -mutation asks for it.
func TestMutations(t *testing.T) {
	for _, m := range Mutations {
		if *onlyMutation != "" && m.Name != *onlyMutation {
			continue
		}
		t.Run(m.Name, func(t *testing.T) {
			focuses, seeds := []string{m.Focus}, *mutationSeeds
			told := slices.ContainsFunc(Stories, func(story Story) bool { return story.Rule == m.Name })
			switch {
			case *onlyFocus == "all":
				focuses = AllFocuses()
			case *onlyFocus != "":
				focuses = []string{*onlyFocus}
			case *onlyMutation != "":
			case told:
				return
			case m.Harmless != "":
				seeds = 2 // only so that the code of the mutation runs
			}
			steps := 0
			for i := range seeds {
				for _, focus := range focuses {
					cfg := Config{Seed: uint64(i), Steps: mutationSteps, Mutation: m.Name, Focus: focus}
					r := Run(cfg)
					steps += r.Steps
					if v := r.Violation; v != nil {
						t.Logf("missed in focus %q with seed %d, after %d steps: %s: %s", focus, cfg.Seed, steps, v.Check,
							v.Detail)
						cfg.Mutation = ""
						if whole := Run(cfg).Violation; whole != nil {
							t.Errorf("the same run fails with the rule, too: %v", whole)
						}
						if m.Harmless != "" {
							t.Errorf("it is not harmless: %v", v)
						}
						return
					}
				}
			}
			if m.Harmless == "" {
				t.Errorf("not missed in %d steps", steps)
			}
		})
	}
}

func TestRunsOfOneConfigAreTheSame(t *testing.T) {
	cfg := Config{Seed: 7, Steps: 4000}
	first, second := Run(cfg), Run(cfg)
	if first.Steps != second.Steps || !maps.Equal(first.Counts, second.Counts) {
		t.Errorf("%d steps with %v, then %d with %v", first.Steps, first.Counts, second.Steps, second.Counts)
	}
}

func TestShrinkTellsAShorterStory(t *testing.T) {
	cfg := Config{Seed: 2, Steps: mutationSteps, Mutation: "tombstone overwritten", Focus: "deletes"}
	var found *Violation
	for ; found == nil; cfg.Seed++ {
		found = Run(cfg).Violation
	}
	shrunk := Shrink(found)
	if shrunk.Check != found.Check || len(shrunk.Story) == 0 || len(shrunk.Config.Off) == 0 {
		t.Errorf("%v became %v", found, shrunk)
	}
}
