package cassandrastore

import (
	"context"
	_ "embed"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/gocql/gocql"
)

// Schema is the tables, without a keyspace, as the migrations together make them.
//
//go:generate cp schema.cql ../../../docker/schema.cql
//go:embed schema.cql
var Schema string

var keyspaceName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,47}$`)

// statementsOf are those of a file, without comments.
func statementsOf(text string) []string {
	var all []string
	for _, s := range strings.Split(comment.ReplaceAllString(text, ""), ";") {
		if s = strings.TrimSpace(s); s != "" {
			all = append(all, s)
		}
	}
	return all
}

var comment = regexp.MustCompile(`--[^\n]*`)

// changeOf is how a statement of a migration begins: what it does, and to which table. Either bears being carried out
// twice.
var changeOf = regexp.MustCompile(`^(CREATE TABLE IF NOT EXISTS|ALTER TABLE) (\w+)`)

// SchemaError says that a table is not as this program needs it: somebody has changed it.
type SchemaError struct{ Keyspace, Table, Column, Wanted, Found string }

func (e *SchemaError) Error() string {
	found := "of type " + e.Found
	if e.Found == "" {
		found = "missing"
	}
	return fmt.Sprintf("table %s.%s: column %s is %s, and has to be of type %s, as the migrations make it",
		e.Keyspace, e.Table, e.Column, found, e.Wanted)
}

// Check says whether the keyspace is new, and creates nothing. The error is that of Open: a *VersionError, a
// *SchemaError, or one that wraps ErrRefused, or something that passes.
func Check(ctx context.Context, o Options) (isNew bool, err error) {
	err = withAddress(ctx, o, func(session *gocql.Session) error {
		found, err := look(ctx, session, o.Keyspace)
		if err != nil {
			return err
		}
		if found.empty() {
			isNew = true
			return nil
		}
		if left := len(pending(found.migrations)); left > 0 {
			return &VersionError{Keyspace: o.Keyspace, Older: true, Detail: fmt.Sprintf(
				"%d of %d migrations are missing", left, len(migrations))}
		}
		return found.check(o.Keyspace)
	})
	return isNew, err
}

// schema is what a keyspace has.
type schema struct {
	tables     map[string]map[string]string // the type of each column of each table
	migrations []Migration
}

// empty says that no table of posts is there.
func (s *schema) empty() bool {
	for table := range s.tables {
		if !strings.HasPrefix(table, "schema_") {
			return false
		}
	}
	return true
}

// look reads what a keyspace has; one that does not exist has nothing.
func look(ctx context.Context, session *gocql.Session, keyspace string) (*schema, error) {
	s := &schema{tables: map[string]map[string]string{}}
	iter := session.Query("SELECT table_name, column_name, type FROM system_schema.columns WHERE keyspace_name = ?",
		keyspace).WithContext(ctx).Consistency(gocql.One).Iter()
	var table, column, kind string
	for iter.Scan(&table, &column, &kind) {
		if s.tables[table] == nil {
			s.tables[table] = map[string]string{}
		}
		s.tables[table][column] = kind
	}
	if err := iter.Close(); err != nil {
		return s, fmt.Errorf("list the tables of keyspace %s: %w", keyspace, err)
	}
	var applied []Migration
	if s.tables["schema_migrations"] != nil {
		var m Migration
		iter := session.Query("SELECT version, name, checksum, applied_at FROM " + keyspace + ".schema_migrations").
			WithContext(ctx).Iter()
		for iter.Scan(&m.Version, &m.Name, &m.Checksum, &m.AppliedAt) {
			applied = append(applied, m)
			m = Migration{AppliedAt: time.Time{}}
		}
		if err := iter.Close(); err != nil {
			return s, fmt.Errorf("list the migrations of keyspace %s: %w", keyspace, err)
		}
	}
	var err error
	s.migrations, err = compare(keyspace, migrations, applied)
	return s, err
}

// check refuses tables that lack a column, or have one of another type. Columns that this program does not know are
// somebody's own, and do no harm.
func (s *schema) check(keyspace string) error {
	for _, statement := range statementsOf(Schema) {
		name := changeOf.FindStringSubmatch(statement)[2]
		for _, wanted := range columnOf.FindAllStringSubmatch(statement, -1) {
			if kind := s.tables[name][wanted[1]]; kind != wanted[2] {
				return &SchemaError{keyspace, name, wanted[1], wanted[2], kind}
			}
		}
	}
	return nil
}

// columnOf is a line of a table in Schema.
var columnOf = regexp.MustCompile(`(?m)^ {4}([a-z_]+) +(bigint|text|timestamp|boolean|int)\b`)
