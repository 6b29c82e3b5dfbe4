package embedded

import (
	"path"
	"strings"

	"github.com/alicebob/miniredis/v2/server"
)

// settings are the ones that CONFIG GET knows. The values are those of a real server without a memory limit and
// without persistence.
var settings = []struct{ name, value string }{
	{"appendonly", "no"},
	{"maxmemory", "0"},
	{"maxmemory-policy", "noeviction"},
	{"save", ""},
}

// config answers CONFIG GET, which miniredis lacks. Patterns are globs, as in Redis; nothing can be set.
func config(c *server.Peer, _ string, args []string) {
	if len(args) < 2 || !strings.EqualFold(args[0], "get") {
		c.WriteError("ERR the embedded Redis knows CONFIG GET only")
		return
	}
	var answer []string
	for _, s := range settings {
		for _, pattern := range args[1:] {
			if ok, err := path.Match(strings.ToLower(pattern), s.name); err == nil && ok {
				answer = append(answer, s.name, s.value)
				break
			}
		}
	}
	if c.Resp3 {
		c.WriteMapLen(len(answer) / 2)
	} else {
		c.WriteLen(len(answer))
	}
	for _, s := range answer {
		c.WriteBulk(s)
	}
}
