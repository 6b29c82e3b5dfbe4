package offsets

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// MarshalJSON writes a standing for each partition; a group that has committed nothing has a null there, and so has a
// record that nobody has looked for.
func (t Topic) MarshalJSON() ([]byte, error) {
	type partition struct {
		Partition int32      `json:"partition"`
		Committed *int64     `json:"committed"`
		Start     int64      `json:"start"`
		End       int64      `json:"end"`
		Lag       int64      `json:"lag"`
		Gone      int64      `json:"gone,omitempty"`
		Next      *time.Time `json:"next"`
		Member    *string    `json:"member"`
		Host      *string    `json:"host"`
	}
	topic := struct {
		Topic      string      `json:"topic"`
		Replay     bool        `json:"replay"`
		Partitions []partition `json:"partitions"`
	}{t.Name, t.Replay, make([]partition, len(t.Partitions))}
	for i, s := range t.Partitions {
		p := partition{Partition: s.Partition, Committed: committed(s.Committed), Start: s.Start, End: s.End,
			Lag: s.Lag(), Gone: s.Gone()}
		if !s.Next.IsZero() {
			p.Next = &s.Next
		}
		if s.Member.ID != "" {
			p.Member, p.Host = &s.Member.ID, &s.Member.Host
		}
		topic.Partitions[i] = p
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

// UnmarshalJSON reads what MarshalJSON writes.
func (m *Move) UnmarshalJSON(data []byte) error {
	type plain Move
	from := struct {
		*plain
		Committed *int64 `json:"committed"`
	}{plain: (*plain)(m)}
	if err := json.Unmarshal(data, &from); err != nil {
		return err
	}
	m.Committed = Nothing
	if from.Committed != nil {
		m.Committed = *from.Committed
	}
	return nil
}

func committed(offset int64) *int64 {
	if offset == Nothing {
		return nil
	}
	return &offset
}

// Summary is a group in a line.
type Summary struct {
	Group   string   `json:"group"`
	State   string   `json:"state"`
	Members int      `json:"members"`
	Topics  []string `json:"topics"`
	// Lag and ReplayLag are how many records it has not processed, of those that are new and those that are replayed.
	Lag       int64 `json:"lag"`
	ReplayLag int64 `json:"replay_lag"`
}

// Summarize is a line for each group.
func Summarize(groups []Group) []Summary {
	list := make([]Summary, len(groups))
	for i, g := range groups {
		list[i] = Summary{Group: g.Name, State: g.State, Members: len(g.Members), Topics: []string{}}
		list[i].Lag, list[i].ReplayLag = g.Lag()
		for _, t := range g.Topics {
			list[i].Topics = append(list[i].Topics, t.Name)
		}
	}
	return list
}

// PrintSummaries writes a line for each group.
func PrintSummaries(w io.Writer, groups []Summary) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "GROUP\tSTATE\tMEMBERS\tLAG\tREPLAY LAG\tTOPICS")
	for _, g := range groups {
		fmt.Fprintf(tw, "%s\t%s\t%d\t%d\t%d\t%s\n", g.Group, g.State, g.Members, g.Lag, g.ReplayLag,
			strings.Join(g.Topics, ", "))
	}
	return tw.Flush()
}

// PrintGroups writes a table of all partitions, and one of all members.
func PrintGroups(w io.Writer, groups []Group) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "GROUP\tSTATE\tTOPIC\tPARTITION\tCOMMITTED\tSTART\tEND\tLAG\tREPLAY LAG\tNEXT RECORD OF\t"+
		"MEMBER\tHOST")
	for _, g := range groups {
		for _, t := range g.Topics {
			for _, s := range t.Partitions {
				live, replay, next := strconv.FormatInt(s.Lag(), 10), "-", "-"
				if t.Replay {
					live, replay = "-", live
				}
				if !s.Next.IsZero() {
					next = s.Next.UTC().Format("2006-01-02T15:04:05.000Z07:00")
				}
				member, host := "-", "-"
				if s.Member.ID != "" {
					member, host = s.Member.short(), s.Member.Host
				}
				fmt.Fprintf(tw, "%s\t%s\t%s\t%d\t%s\t%d\t%d\t%s\t%s\t%s\t%s\t%s\n", g.Name, g.State, t.Name, s.Partition,
					orDash(s.Committed), s.Start, s.End, live, replay, next, member, host)
			}
		}
	}
	fmt.Fprintln(tw)
	fmt.Fprintln(tw, "GROUP\tMEMBER\tCLIENT\tHOST\tREADS")
	for _, g := range groups {
		for _, m := range g.Members {
			fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\n", g.Name, m.ID, m.Client, m.Host, m.reads())
		}
	}
	return tw.Flush()
}

// short is enough of a member's id to find it in the list of members.
func (m Member) short() string {
	if m.Name != "" {
		return m.Name
	}
	if len(m.ID) > 8 {
		return "…" + m.ID[len(m.ID)-8:]
	}
	return m.ID
}

func (m Member) reads() string {
	if len(m.Reads) == 0 {
		return "nothing: it waits as a spare"
	}
	list := make([]string, len(m.Reads))
	for i, r := range m.Reads {
		list[i] = r.Topic + ":" + strings.ReplaceAll(strings.Trim(fmt.Sprint(r.Partitions), "[]"), " ", ",")
	}
	return strings.Join(list, " ")
}

// PrintPlan writes a table of the moves, nothing for a plan without any.
func PrintPlan(w io.Writer, p Plan) error {
	if len(p.Moves) == 0 {
		return nil
	}
	gaps := slices.ContainsFunc(p.Moves, func(m Move) bool { return m.Missing > 0 || m.Skipped > 0 })
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	head, foot := "TOPIC\tPARTITION\tCOMMITTED\tSTART\tEND\tNEW\tDIFFERENCE\tRECORDS", "total\t\t\t\t\t\t\t%d"
	if gaps {
		head, foot = head+"\tMISSING\tSKIPPED", foot+"\t%d\t%d"
	}
	fmt.Fprintln(tw, head)
	for _, m := range p.Moves {
		fmt.Fprintf(tw, "%s\t%d\t%s\t%d\t%d\t%d\t%+d\t%d", m.Topic, m.Partition, orDash(m.Committed), m.Start, m.End, m.New,
			m.Difference, m.Records)
		if gaps {
			fmt.Fprintf(tw, "\t%d\t%d", m.Missing, m.Skipped)
		}
		fmt.Fprintln(tw)
	}
	totals := []any{p.Records}
	if gaps {
		totals = append(totals, p.Missing, p.Skipped)
	}
	fmt.Fprintf(tw, foot+"\n", totals...)
	return tw.Flush()
}

func orDash(offset int64) string {
	if offset == Nothing {
		return "-"
	}
	return strconv.FormatInt(offset, 10)
}
