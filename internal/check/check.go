// Package check looks at the servers of a deployment from where it runs, hop by hop: the name, the connection, TLS, who
// is let in, and whether what is there is as freshet needs it.
//
//	check.go      what is checked, and what comes out
//	network.go    the hops that all servers share
//	servers.go    the hops of Kafka, Redis and Cassandra
//	remedy.go     what an error means, what helps, and whether trying again does
package check

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"text/tabwriter"
	"time"

	"freshet/internal/config"
)

// Result is what became of a hop.
type Result struct {
	Server  string `json:"server"`
	Address string `json:"address"`
	Hop     string `json:"hop"`
	OK      bool   `json:"ok"`
	// Detail is what was found, or why the hop failed.
	Detail string `json:"detail"`
	// Remedy says what to do about a failure.
	Remedy string `json:"remedy,omitempty"`
}

// The hops, in their order. The last ones are each of one server.
const (
	hopDNS       = "dns"
	hopTCP       = "tcp"
	hopTLS       = "tls"
	hopLogin     = "authentication"
	hopBrokers   = "brokers"
	hopTopics    = "topics"
	hopEviction  = "settings"
	hopSchema    = "schema"
	hopTimeout   = 5 * time.Second  // of each hop of an address
	stateTimeout = 20 * time.Second // of those that look at what is there
)

// Run checks every server that the configuration names, and asks nothing of those that would be started in the process.
// Behind the first hop of an address that fails, the others are not tried. It writes nothing to any server, but loads
// the scripts into Redis that a start would load.
func Run(ctx context.Context, c config.Config) ([]Result, error) {
	login, err := c.Login()
	if err != nil {
		return nil, err
	}
	r := &run{cfg: c, login: login}
	r.kafka(ctx)
	r.redis(ctx)
	r.cassandra(ctx)
	return r.results, nil
}

// run is one check.
type run struct {
	cfg     config.Config
	login   config.Login
	results []Result
}

// target is an address that is being checked.
type target struct {
	*run
	server, address string
}

// note writes a hop down and says whether to go on to the next.
func (t target) note(hop, found string, err error) bool {
	result := Result{Server: t.server, Address: t.address, Hop: hop, OK: err == nil, Detail: found}
	if err != nil {
		result.Detail = strings.Join(strings.Fields(err.Error()), " ")
		result.Remedy, _ = explain(t.server, err)
	}
	t.results = append(t.results, result)
	return err == nil
}

// Failed is the first hop that failed, nil if none did.
func Failed(results []Result) *Result {
	for i := range results {
		if !results[i].OK {
			return &results[i]
		}
	}
	return nil
}

// Print writes a line for each hop.
func Print(w io.Writer, results []Result) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "SERVER\tADDRESS\tHOP\tRESULT\tDETAIL")
	for _, r := range results {
		outcome, detail := "ok", r.Detail
		if !r.OK {
			outcome = "FAILED"
		}
		if r.Remedy != "" {
			detail += "; " + r.Remedy
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", r.Server, r.Address, r.Hop, outcome, detail)
	}
	return table.Flush()
}

// withPort adds the port to an address that has none.
func withPort(address, port string) string {
	if _, _, err := net.SplitHostPort(address); err == nil {
		return address
	}
	return net.JoinHostPort(strings.Trim(address, "[]"), port)
}
