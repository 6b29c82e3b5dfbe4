package freshet_test

import (
	"encoding/json"
	"io"
	"os/exec"
	"strings"
	"testing"
)

// allowed says which packages of the module each layer may import: those of the layers below it, named by prefix. The
// way of a dependency is
//
//	cmd → internal/app → processors views streams emitters api → internal/{kafka,feeds,posts,events,tables} → freshet
var allowed = []struct {
	pkg     string // a package and everything below it
	imports []string
}{
	{"freshet/internal/events", []string{"freshet"}},
	{"freshet/internal/access", []string{}},
	{"freshet/internal/posts", []string{"freshet", "freshet/internal/access", "freshet/internal/posts"}},
	{"freshet/internal/feeds", []string{"freshet", "freshet/internal/access", "freshet/internal/crash",
		"freshet/internal/feeds"}},
	{"freshet/internal/idempotency", []string{"freshet", "freshet/internal/feeds"}},
	{"freshet/internal/kafka", []string{"freshet", "freshet/internal/access"}},
	{"freshet/internal/tables", []string{"freshet", "freshet/internal/crash"}},
	{"freshet/internal/auth", []string{"freshet"}},
	{"freshet/internal/embedded", []string{}},
	{"freshet/internal/config", []string{"freshet", "freshet/internal/access", "freshet/internal/auth",
		"freshet/internal/feeds", "freshet/internal/kafka"}},
	{"freshet/internal/admin", []string{"freshet/internal/kafka"}},
	{"freshet/internal/offsets", []string{"freshet", "freshet/internal/kafka", "freshet/internal/admin",
		"freshet/internal/topology"}},
	{"freshet/internal/replay", []string{"freshet", "freshet/internal/events", "freshet/internal/kafka",
		"freshet/internal/offsets", "freshet/internal/pause", "freshet/internal/topology",
		"freshet/processors/directory", "freshet/processors/fanout"}},
	{"freshet/internal/topology", []string{"freshet", "freshet/emitters", "freshet/processors"}},
	{"freshet/internal/deadletters", []string{"freshet", "freshet/internal/events", "freshet/internal/kafka"}},
	{"freshet/internal/demo", []string{}},
	{"freshet/internal/crash", []string{}},
	{"freshet/internal/pause", []string{}},
	{"freshet/internal/misdeliver", []string{"freshet"}},
	{"freshet/client", []string{"freshet"}},
	{"freshet/processors", []string{"freshet", "freshet/internal/events", "freshet/internal/feeds",
		"freshet/internal/kafka", "freshet/internal/misdeliver", "freshet/internal/posts", "freshet/internal/tables"}},
	{"freshet/emitters", []string{"freshet", "freshet/internal/crash", "freshet/internal/events", "freshet/internal/feeds",
		"freshet/internal/kafka", "freshet/internal/posts"}},
	{"freshet/views", []string{"freshet", "freshet/internal/crash", "freshet/internal/events",
		"freshet/internal/feeds", "freshet/internal/kafka", "freshet/internal/posts", "freshet/processors/directory",
		"freshet/processors/fanout", "freshet/processors/following"}},
	{"freshet/streams", []string{"freshet", "freshet/views", "freshet/internal/events", "freshet/internal/kafka",
		"freshet/internal/pause"}},
	{"freshet/api", []string{"freshet", "freshet/emitters", "freshet/streams", "freshet/views", "freshet/internal/auth",
		"freshet/internal/events", "freshet/internal/feeds", "freshet/internal/idempotency"}},
}

type listed struct {
	ImportPath string
	Imports    []string
	Standard   bool
}

func TestImportDirections(t *testing.T) {
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "./...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	decoder := json.NewDecoder(strings.NewReader(string(out)))
	seen := map[string]bool{}
	for {
		var p listed
		if err := decoder.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		seen[p.ImportPath] = true
		for _, imported := range p.Imports {
			bare := p.ImportPath == "freshet" || p.ImportPath == "freshet/client"
			if bare && strings.Contains(strings.Split(imported, "/")[0], ".") {
				t.Errorf("%s imports %s; it may import the standard library only", p.ImportPath, imported)
			}
			if strings.Split(imported, "/")[0] == "freshet" && !mayImport(p.ImportPath, imported) {
				t.Errorf("%s imports %s, which is not below it", p.ImportPath, imported)
			}
		}
	}
	for _, rule := range allowed {
		if !anyBelow(seen, rule.pkg) {
			t.Errorf("there is a rule for %s, but no such package", rule.pkg)
		}
	}
}

// mayImport says whether the arrow is allowed. Packages without a rule (commands, wiring, the simulator) may import
// all.
func mayImport(pkg, imported string) bool {
	if pkg == "freshet" {
		return false
	}
	for _, rule := range allowed {
		if pkg != rule.pkg && !strings.HasPrefix(pkg, rule.pkg+"/") {
			continue
		}
		for _, ok := range rule.imports {
			if imported == ok || strings.HasPrefix(imported, ok+"/") && ok != "freshet" {
				return true
			}
		}
		return false
	}
	return true
}

func anyBelow(seen map[string]bool, pkg string) bool {
	for p := range seen {
		if p == pkg || strings.HasPrefix(p, pkg+"/") {
			return true
		}
	}
	return false
}
