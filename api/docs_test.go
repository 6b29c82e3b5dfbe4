package api_test

import (
	"html"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"freshet/api"
)

// The page has every operation with its parameters, bodies and answers, every value, and nothing from elsewhere.
func TestDocs(t *testing.T) {
	a, err := api.New(api.Config{CursorKey: make([]byte, 32)})
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	a.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/docs", http.NoBody))
	page := w.Body.String()
	if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "text/html; charset=utf-8" {
		t.Fatalf("%d %v %s", w.Code, w.Header(), page)
	}
	sections := map[string]string{}
	for _, section := range strings.Split(page, "<h2 ")[1:] {
		id, _, _ := strings.Cut(strings.TrimPrefix(section, `id="`), `"`)
		sections[id] = html.UnescapeString(section)
	}
	operations := 0
	for path, item := range spec().Paths.Map() {
		for method, operation := range item.Operations() {
			operations++
			section := sections[operation.OperationID]
			wanted := []string{method, path, operation.Summary}
			for _, p := range append(operation.Parameters, item.Parameters...) {
				wanted = append(wanted, "<code>"+p.Value.Name+"</code>")
			}
			if operation.RequestBody != nil {
				wanted = append(wanted, "<h3>Body</h3>")
			}
			for status := range operation.Responses.Map() {
				wanted = append(wanted, "<td>"+status+" ")
			}
			for _, want := range wanted {
				if !strings.Contains(section, want) {
					t.Errorf("%s %s: the page does not say %q", method, path, want)
				}
			}
		}
	}
	if operations+1 != len(sections) {
		t.Errorf("%d sections for %d operations", len(sections), operations)
	}
	for name := range spec().Components.Schemas {
		if !strings.Contains(page, `id="schema-`+name+`"`) {
			t.Errorf("the page does not show the value %s", name)
		}
	}
	for _, link := range regexp.MustCompile(`(?:href|src)="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		if anchor, within := strings.CutPrefix(link[1], "#"); within {
			if !strings.Contains(page, `id="`+anchor+`"`) {
				t.Errorf("the link %s leads nowhere", link[1])
			}
		} else if link[1] != "/openapi.yaml" {
			t.Errorf("the page needs %s", link[1])
		}
	}
	if strings.Contains(page, "<script") || !strings.Contains(w.Header().Get("Content-Security-Policy"), "'none'") {
		t.Error("the page may run or load something")
	}
}
