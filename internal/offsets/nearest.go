package offsets

import (
	"strings"

	"freshet"
)

// meant suggests the name that was probably meant, with the words around it; nothing if none is near. Names are
// compared without the deployment's prefix.
func meant(names freshet.Names, given string, known []string) string {
	given = strings.TrimPrefix(given, names.Prefix)
	best, least := "", len(given)/3+2
	for _, name := range known {
		name = strings.TrimPrefix(name, names.Prefix)
		if d := distance(given, name); d < least || len(given) > 2 && d < len(name) && strings.HasPrefix(name, given) {
			best, least = name, d
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}

// distance is Levenshtein's: how many bytes have to be put in, left out or replaced.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
