//go:build real

package cassandrastore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/gocql/gocql"
	"golang.org/x/sync/errgroup"
)

// change carries statements out in a keyspace, {k} in them.
func change(t *testing.T, o Options, statements ...string) {
	t.Helper()
	err := withAddress(t.Context(), o, func(session *gocql.Session) error {
		for _, s := range statements {
			if err := session.Query(strings.ReplaceAll(s, "{k}", o.Keyspace)).Exec(); err != nil {
				return fmt.Errorf("%s: %w", s, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// refusedBoth wants Check and Open to refuse a keyspace in the same way.
func refusedBoth[E error](t *testing.T, o Options, says string) (refusal E) {
	t.Helper()
	_, checked := Check(t.Context(), o)
	again, opened := Open(t.Context(), o)
	if opened == nil {
		closeStore(t, again)
	}
	for _, err := range []error{checked, opened} {
		if !errors.As(err, &refusal) || !strings.Contains(err.Error(), says) {
			t.Errorf("got %v, want a %T that says %q", err, refusal, says)
		}
	}
	return refusal
}

// Tables that somebody has changed are refused, by Check and by Open, and name the column.
func TestChangedTable(t *testing.T) {
	o := options(nextKeyspace())
	if isNew, err := Check(t.Context(), o); err != nil || !isNew {
		t.Errorf("before the first start: new %t, %v", isNew, err)
	}
	closeStore(t, open(t, o))
	if isNew, err := Check(t.Context(), o); err != nil || isNew {
		t.Errorf("after it: new %t, %v", isNew, err)
	}
	change(t, o, "ALTER TABLE {k}.posts DROP visibility")
	if e := refusedBoth[*SchemaError](t, o, "posts"); e.Column != "visibility" {
		t.Errorf("names column %q", e.Column)
	}
}

func TestOlderAndNewerSchemas(t *testing.T) {
	o := options(nextKeyspace())
	closeStore(t, open(t, o))
	plan, err := Plan(t.Context(), o)
	if err != nil || len(plan) != len(migrations) || len(pending(plan)) != 0 {
		t.Fatalf("a keyspace that was just made: %+v, %v", plan, err)
	}
	change(t, o, "DELETE FROM {k}.schema_migrations WHERE version = 1")
	if e := refusedBoth[*VersionError](t, o, "freshet migrate"); !e.Older {
		t.Errorf("not told to be older: %v", e)
	}
	if plan, err = Plan(t.Context(), o); err != nil || len(pending(plan)) != 1 {
		t.Errorf("the plan for an older one: %+v, %v", plan, err)
	}
	if plan, err = Migrate(t.Context(), o); err != nil || len(pending(plan)) != 0 {
		t.Errorf("migrated: %+v, %v", plan, err)
	}
	closeStore(t, open(t, o))

	change(t, o, "INSERT INTO {k}.schema_migrations (version, name, checksum) VALUES (99, 'later', 'x')")
	if e := refusedBoth[*VersionError](t, o, "version 99"); e.Older {
		t.Errorf("told to be older: %v", e)
	}
	change(t, o, "DELETE FROM {k}.schema_migrations WHERE version = 99",
		"UPDATE {k}.schema_migrations SET checksum = 'other' WHERE version = 1")
	if e := refusedBoth[*VersionError](t, o, "checksum"); e.Older {
		t.Errorf("told to be older: %v", e)
	}
	if _, err := Migrate(t.Context(), o); err == nil {
		t.Error("migrated what another program has made")
	}
}

// Many processes that come to a new keyspace at once make it once, and all go on.
func TestMigrateAtOnce(t *testing.T) {
	o := options(nextKeyspace())
	var g errgroup.Group
	for i := range 6 {
		g.Go(func() error {
			if i%2 == 0 {
				_, err := Migrate(context.Background(), o)
				return err
			}
			s, err := Open(context.Background(), o)
			for errors.Is(err, ErrMigrating) { // as a process that starts does
				s, err = Open(context.Background(), o)
			}
			if err == nil {
				err = s.Close()
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	closeStore(t, open(t, o))
	// Who holds the lease keeps others out, and who has died does so no longer than it lasts.
	change(t, o, "INSERT INTO {k}.schema_lease (name, owner) VALUES ('migrate', 'somebody') USING TTL 3",
		"DELETE FROM {k}.schema_migrations WHERE version = 1")
	if _, err := Open(t.Context(), o); !errors.Is(err, ErrMigrating) || !strings.Contains(err.Error(), "somebody") {
		t.Errorf("while somebody migrates: %v", err)
	}
	if plan, err := Migrate(t.Context(), o); err != nil || len(pending(plan)) != 0 {
		t.Errorf("after somebody has died: %+v, %v", plan, err)
	}
}

// The schema in docker/ and the migrations make the same tables.
func TestSchemaIsWhatMigrationsMake(t *testing.T) {
	byHand, migrated := options(nextKeyspace()), options(nextKeyspace())
	if _, err := Migrate(t.Context(), migrated); err != nil {
		t.Fatal(err)
	}
	statements := []string{"CREATE KEYSPACE {k} WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}"}
	for _, s := range statementsOf(Schema) {
		statements = append(statements, changeOf.ReplaceAllString(s, "$1 {k}.$2"))
	}
	change(t, byHand, statements...)
	got, want := describe(t, byHand), describe(t, migrated)
	if len(want) == 0 || !slices.Equal(got, want) {
		t.Errorf("docker/schema.cql makes\n%s\nthe migrations\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if e := refusedBoth[*VersionError](t, byHand, "freshet migrate"); !e.Older {
		t.Errorf("tables that nobody has noted: %v", e)
	}
	if _, err := Migrate(t.Context(), byHand); err != nil {
		t.Fatal(err)
	}
	closeStore(t, open(t, byHand))
}

// describe lists the columns and options of all tables.
func describe(t *testing.T, o Options) (lines []string) {
	t.Helper()
	err := withAddress(t.Context(), o, func(session *gocql.Session) error {
		for _, query := range []string{
			"SELECT table_name, column_name, clustering_order, kind, position, type FROM system_schema.columns " +
				"WHERE keyspace_name = ?",
			"SELECT table_name, compaction, compression, gc_grace_seconds, default_time_to_live FROM system_schema.tables " +
				"WHERE keyspace_name = ?",
		} {
			rows, err := session.Query(query, o.Keyspace).Iter().SliceMap()
			if err != nil {
				return err
			}
			for _, row := range rows {
				lines = append(lines, fmt.Sprint(row))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(lines)
	return lines
}
