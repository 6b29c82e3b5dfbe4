//go:build real

package cassandrastore

import (
	"errors"
	"strings"
	"testing"
)

// Tables of another version are refused, by Check and by Open, and name the column.
func TestOlderSchema(t *testing.T) {
	o := options(nextKeyspace())
	if missing, err := Check(t.Context(), o); err != nil || !missing {
		t.Errorf("before the first start: missing %t, %v", missing, err)
	}
	s := open(t, o)
	defer closeStore(t, s)
	if missing, err := Check(t.Context(), o); err != nil || missing {
		t.Errorf("after it: missing %t, %v", missing, err)
	}
	if err := s.session.Query("ALTER TABLE " + o.Keyspace + ".posts DROP visibility").Exec(); err != nil {
		t.Fatal(err)
	}
	_, checked := Check(t.Context(), o)
	again, opened := Open(t.Context(), o)
	if opened == nil {
		closeStore(t, again)
	}
	for _, err := range []error{checked, opened} {
		var schema *SchemaError
		if !errors.As(err, &schema) || schema.Column != "visibility" || !strings.Contains(err.Error(), "posts") {
			t.Errorf("got %v, want the column that is missing", err)
		}
	}
}
