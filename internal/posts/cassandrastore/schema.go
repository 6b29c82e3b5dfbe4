package cassandrastore

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/gocql/gocql"
)

// Schema is the tables, without a keyspace.
//
//go:generate cp schema.cql ../../../docker/schema.cql
//go:embed schema.cql
var Schema string

var keyspaceName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,47}$`)

// statements are those of Schema, without comments.
func statements() []string {
	var all []string
	for _, s := range strings.Split(comment.ReplaceAllString(Schema, ""), ";") {
		if s = strings.TrimSpace(s); s != "" {
			all = append(all, s)
		}
	}
	return all
}

var comment = regexp.MustCompile(`--[^\n]*`)

// ensureSchema creates what is missing. Two nodes that are told at the same moment to create the same table may make
// two of it, so every process tells the first address that answers, and nobody if all is there.
func ensureSchema(ctx context.Context, config gocql.ClusterConfig, o Options) error {
	var errs []error
	hosts := config.Hosts
	for _, host := range hosts {
		config.Hosts = []string{host}
		config.DisableInitialHostLookup = true
		session, err := connect(ctx, config)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		err = createMissing(ctx, session, o)
		session.Close()
		if err != nil {
			return fmt.Errorf("create keyspace %s in Cassandra at %s: %w", o.Keyspace, host, err)
		}
		return nil
	}
	return errors.Join(errs...)
}

func createMissing(ctx context.Context, session *gocql.Session, o Options) error {
	missing, err := missingTables(ctx, session, o.Keyspace)
	if err != nil || !missing {
		return err
	}
	// IF NOT EXISTS leaves a keyspace alone that an operator has made with other replicas.
	create := fmt.Sprintf(
		"CREATE KEYSPACE IF NOT EXISTS %s WITH replication = {'class': 'NetworkTopologyStrategy', 'replication_factor': %d}",
		o.Keyspace, o.Replication)
	// The driver waits after each statement until all nodes agree.
	if err := session.Query(create).WithContext(ctx).Exec(); err != nil {
		return err
	}
	for _, statement := range statements() {
		statement = tableName.ReplaceAllString(statement, "CREATE TABLE IF NOT EXISTS "+o.Keyspace+".$1")
		if err := session.Query(statement).WithContext(ctx).Exec(); err != nil {
			return fmt.Errorf("%s: %w", strings.SplitN(statement, " (", 2)[0], err)
		}
	}
	return nil
}

var tableName = regexp.MustCompile(`CREATE TABLE IF NOT EXISTS (\w+)`)

// SchemaError says that a table is not as this program needs it: another version has made it.
type SchemaError struct{ Keyspace, Table, Column, Wanted, Found string }

func (e *SchemaError) Error() string {
	found := "of type " + e.Found
	if e.Found == "" {
		found = "missing"
	}
	return fmt.Sprintf("table %s.%s: column %s is %s, and has to be of type %s: another version of freshet has made the "+
		"table; run that version, or bring the table up to date", e.Keyspace, e.Table, e.Column, found, e.Wanted)
}

// Check says whether tables are missing, and creates nothing. The error is that of Open: a *SchemaError, or one that
// wraps ErrRefused, or something that passes.
func Check(ctx context.Context, o Options) (missing bool, err error) {
	config, err := configure(&o)
	if err != nil {
		return false, err
	}
	config.DisableInitialHostLookup = true
	session, err := connect(ctx, *config)
	if err != nil {
		return false, err
	}
	defer session.Close()
	return missingTables(ctx, session, o.Keyspace)
}

// missingTables refuses tables that lack a column, or have one of another type. Columns that this program does not
// know are a later version's, and do no harm.
func missingTables(ctx context.Context, session *gocql.Session, keyspace string) (bool, error) {
	found := map[string]map[string]string{}
	iter := session.Query("SELECT table_name, column_name, type FROM system_schema.columns WHERE keyspace_name = ?",
		keyspace).WithContext(ctx).Consistency(gocql.One).Iter()
	var table, column, kind string
	for iter.Scan(&table, &column, &kind) {
		if found[table] == nil {
			found[table] = map[string]string{}
		}
		found[table][column] = kind
	}
	if err := iter.Close(); err != nil {
		return false, fmt.Errorf("list its tables: %w", err)
	}
	missing := false
	for _, statement := range statements() {
		name := tableName.FindStringSubmatch(statement)[1]
		if found[name] == nil {
			missing = true
			continue
		}
		for _, wanted := range columnOf.FindAllStringSubmatch(statement, -1) {
			if kind := found[name][wanted[1]]; kind != wanted[2] {
				return false, &SchemaError{keyspace, name, wanted[1], wanted[2], kind}
			}
		}
	}
	return missing, nil
}

// columnOf is a line of a table in Schema.
var columnOf = regexp.MustCompile(`(?m)^ {4}([a-z_]+) +(bigint|text|timestamp|boolean|int)\b`)
