// Package surfaces holds everything that shows posts against one small definition of who sees what: home feeds,
// profiles, single posts, and streams, those that are resumed included. Its tests do random things to a few accounts
// through two API processes, one after another, and after each compare what everybody is shown with definition.go.
//
//	definition.go       who sees what
//	processes_test.go   the API processes and requests to them
//	streams_test.go     streams, and what they have to tell
//	surfaces_test.go    the steps, and pages
//
// Variables of the environment: FRESHET_SURFACES_SEED repeats a run, FRESHET_SURFACES_STEPS is how long it is.
package surfaces
