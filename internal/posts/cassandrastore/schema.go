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

func missingTables(ctx context.Context, session *gocql.Session, keyspace string) (bool, error) {
	there := map[string]bool{}
	iter := session.Query("SELECT table_name FROM system_schema.tables WHERE keyspace_name = ?", keyspace).
		WithContext(ctx).Consistency(gocql.One).Iter()
	var name string
	for iter.Scan(&name) {
		there[name] = true
	}
	if err := iter.Close(); err != nil {
		return false, fmt.Errorf("list its tables: %w", err)
	}
	for _, match := range tableName.FindAllStringSubmatch(Schema, -1) {
		if !there[match[1]] {
			return true, nil
		}
	}
	return false, nil
}
