package api

import (
	"net/http"
	"slices"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/gorilla/mux"
)

// TestEveryRouteIsDescribed holds the router's routes and those of openapi.yaml against each other, both ways.
func TestEveryRouteIsDescribed(t *testing.T) {
	doc, err := openapi3.NewLoader().LoadFromData(openAPI)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	var described, routed []string
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			described = append(described, method+" "+path)
		}
	}
	a, err := New(Config{CursorKey: make([]byte, minCursorKey)})
	if err != nil {
		t.Fatal(err)
	}
	err = a.router.Walk(func(route *mux.Route, _ *mux.Router, _ []*mux.Route) error {
		path, err := route.GetPathTemplate()
		if err != nil {
			return err
		}
		methods, err := route.GetMethods()
		for _, method := range methods {
			if method != http.MethodHead { // every GET is a HEAD, too
				routed = append(routed, method+" "+path)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, route := range routed {
		if p, known := permissions[route]; !known || p.who == nobody || p.who != anyone && (p.scope == "" || p.cost < 1) {
			t.Errorf("nothing says who may %s, and at what cost", route)
		}
	}
	if len(permissions) != len(routed) {
		t.Errorf("%d permissions for %d routes", len(permissions), len(routed))
	}
	slices.Sort(described)
	slices.Sort(routed)
	if len(routed) == 0 || !slices.Equal(described, routed) {
		t.Errorf("openapi.yaml describes\n%v\nand the router has\n%v", described, routed)
	}
}
