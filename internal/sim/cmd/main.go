// Command cmd runs the simulator for as long as one likes:
//
//	go run ./internal/sim/cmd -steps 10000000 -seed 1 -json report.json
//
// It ends with status 1 at the first violation, which it tells as a story.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"

	"freshet/internal/sim"
)

func main() {
	steps := flag.Int("steps", 1_000_000, "steps to do in all")
	seed := flag.Uint64("seed", 1, "the first seed")
	length := flag.Int("run", 8000, "steps for which each run is disturbed")
	focus := flag.String("focus", "all", "what runs are about: all, or one of the simulator's focuses")
	file := flag.String("json", "", "a file for the report as JSON")
	flag.Parse()
	if err := run(*steps, *seed, *length, *focus, *file); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(steps int, seed uint64, length int, focus, file string) error {
	focuses := sim.AllFocuses()
	if focus != "all" {
		if !slices.Contains(focuses, focus) {
			return fmt.Errorf("focus %q: want one of %q", focus, focuses)
		}
		focuses = []string{focus}
	}
	report := sim.Campaign{
		Steps: steps, Seed: seed, RunSteps: length, Focuses: focuses,
		Progress: func(r sim.Report) {
			fmt.Printf("%11d steps, %d runs, %d steps/s\n", r.Steps, r.Runs, r.Rate)
		},
	}.Run()
	fmt.Print(report)
	if file != "" {
		data, err := json.MarshalIndent(report, "", "  ")
		if err != nil {
			return fmt.Errorf("write the report: %w", err)
		}
		if err := os.WriteFile(file, append(data, '\n'), 0o644); err != nil {
			return fmt.Errorf("write the report: %w", err)
		}
	}
	if report.Violation != "" {
		return fmt.Errorf("the deployment did not do what it promises; run seed %d again", seed)
	}
	return nil
}
