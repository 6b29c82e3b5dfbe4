package topology

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Print writes a table for people: each group with its topics, and what a reset means for each.
func Print(w io.Writer, groups []Group) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "GROUP\tTOPIC\tROLE\tAT A RESET")
	for _, g := range groups {
		row := func(topic, role, reset string) { fmt.Fprintf(tw, "%s\t%s\t%s\t%s\n", g.Name, topic, role, reset) }
		for _, topic := range g.Inputs {
			row(topic, "input", "safe to go back in: "+g.Again)
		}
		if g.Loop != "" {
			row(g.Loop, "loop", "left alone: written again as the inputs are read again")
		}
		if g.Table != "" {
			row(g.Table, "table", "not rewound: rows stay, and what is read again is applied to them")
		}
		for _, topic := range g.Writes {
			row(topic, "output", "written again")
		}
		if g.Effect != "" {
			row("-", "effect", g.Effect+": written again, and stays what it is")
		}
		row("-", "never", "to go forward: "+g.Ahead)
	}
	return tw.Flush()
}

// Dot writes a graph in the language of Graphviz: groups are ellipses, topics boxes.
func Dot(w io.Writer, groups []Group, published []string) error {
	var b strings.Builder
	b.WriteString("digraph freshet {\n  rankdir=LR;\n  node [fontname=\"sans-serif\"];\n")
	boxes := map[string]bool{}
	box := func(topic, style string) {
		if !boxes[topic] {
			boxes[topic] = true
			fmt.Fprintf(&b, "  %q [shape=box%s];\n", topic, style)
		}
	}
	fmt.Fprintf(&b, "  %q [shape=ellipse, style=dashed];\n", API)
	for _, topic := range published {
		box(topic, "")
		fmt.Fprintf(&b, "  %q -> %q;\n", API, topic)
	}
	for _, g := range groups {
		fmt.Fprintf(&b, "  %q [shape=ellipse, style=bold];\n", g.Name)
		for _, topic := range g.Inputs {
			box(topic, "")
			fmt.Fprintf(&b, "  %q -> %q;\n", topic, g.Name)
		}
		if g.Loop != "" {
			box(g.Loop, ", style=dashed")
			fmt.Fprintf(&b, "  %q -> %q [dir=both, style=dashed];\n", g.Name, g.Loop)
		}
		if g.Table != "" {
			box(g.Table, ", style=filled")
			fmt.Fprintf(&b, "  %q -> %q [dir=both];\n", g.Name, g.Table)
		}
		for _, topic := range g.Writes {
			box(topic, "")
			fmt.Fprintf(&b, "  %q -> %q;\n", g.Name, topic)
		}
		if g.Effect != "" {
			fmt.Fprintf(&b, "  %q [shape=cylinder];\n  %q -> %q;\n", g.Effect, g.Name, g.Effect)
		}
	}
	b.WriteString("}\n")
	_, err := io.WriteString(w, b.String())
	return err
}
