package offsets

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
)

// MarshalJSON writes a standing for each partition; a group that has committed nothing has a null there.
func (t Topic) MarshalJSON() ([]byte, error) {
	type partition struct {
		Partition int32  `json:"partition"`
		Committed *int64 `json:"committed"`
		Start     int64  `json:"start"`
		End       int64  `json:"end"`
		Lag       int64  `json:"lag"`
		Gone      int64  `json:"gone,omitempty"`
	}
	topic := struct {
		Topic      string      `json:"topic"`
		Partitions []partition `json:"partitions"`
	}{t.Name, make([]partition, len(t.Partitions))}
	for i, s := range t.Partitions {
		topic.Partitions[i] = partition{s.Partition, committed(s.Committed), s.Start, s.End, s.Lag(), s.Gone()}
	}
	return json.Marshal(topic)
}

// MarshalJSON writes null for a group that has committed nothing.
func (m Move) MarshalJSON() ([]byte, error) {
	type plain Move
	return json.Marshal(struct {
		plain
		Committed *int64 `json:"committed"`
	}{plain(m), committed(m.Committed)})
}

func committed(offset int64) *int64 {
	if offset == Nothing {
		return nil
	}
	return &offset
}

// PrintGroups writes a table of all partitions.
func PrintGroups(w io.Writer, groups []Group) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "GROUP\tSTATE\tMEMBERS\tTOPIC\tPARTITION\tCOMMITTED\tSTART\tEND\tLAG")
	for _, g := range groups {
		for _, t := range g.Topics {
			for _, s := range t.Partitions {
				fmt.Fprintf(tw, "%s\t%s\t%d\t%s\t%d\t%s\t%d\t%d\t%d\n", g.Name, g.State, len(g.Members), t.Name, s.Partition,
					orDash(s.Committed), s.Start, s.End, s.Lag())
			}
		}
	}
	fmt.Fprintln(tw)
	fmt.Fprintln(tw, "GROUP\tMEMBER\tCLIENT\tHOST")
	for _, g := range groups {
		for _, m := range g.Members {
			fmt.Fprintf(tw, "%s\t%s\t%s\t%s\n", g.Name, m.ID, m.Client, m.Host)
		}
	}
	return tw.Flush()
}

// PrintPlan writes a table of the moves, nothing for a plan without any.
func PrintPlan(w io.Writer, p Plan) error {
	if len(p.Moves) == 0 {
		return nil
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "PARTITION\tCOMMITTED\tNEW\tDIFFERENCE\tRECORDS")
	for _, m := range p.Moves {
		fmt.Fprintf(tw, "%d\t%s\t%d\t%+d\t%d\n", m.Partition, orDash(m.Committed), m.New, m.Difference, m.Records)
	}
	fmt.Fprintf(tw, "total\t\t\t\t%d\n", p.Records)
	return tw.Flush()
}

func orDash(offset int64) string {
	if offset == Nothing {
		return "-"
	}
	return strconv.FormatInt(offset, 10)
}
