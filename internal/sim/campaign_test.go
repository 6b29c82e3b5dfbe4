package sim

import (
	"os"
	"strconv"
	"testing"
)

// campaignSteps is how many steps TestCampaign does; FRESHET_SIM_STEPS asks for another number, as the race detector's
// run does.
func campaignSteps(t *testing.T) int {
	t.Helper()
	asked := os.Getenv("FRESHET_SIM_STEPS")
	if asked == "" {
		return 6_000_000
	}
	n, err := strconv.Atoi(asked)
	if err != nil {
		t.Fatalf("FRESHET_SIM_STEPS=%s: %v", asked, err)
	}
	return n
}

// No run breaks a promise, and in all of them together every fault and every branch occurs.
func TestCampaign(t *testing.T) {
	c := Campaign{Steps: campaignSteps(t), Seed: 1, RunSteps: 8000, Focuses: AllFocuses()}
	report := c.Run()
	t.Logf("%s", report)
	if report.Violation != "" {
		t.Fatal(report.Violation)
	}
	if missing := report.Missing(); len(missing) > 0 && c.Steps >= 6_000_000 {
		t.Errorf("never occurred, so it was not tested: %q", missing)
	}
}
