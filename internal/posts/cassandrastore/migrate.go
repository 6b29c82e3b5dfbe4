package cassandrastore

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/gocql/gocql"
)

const (
	// leaseLife is how long somebody who applies migrations is silent until others may: more than a statement takes with
	// the wait for all nodes to agree.
	leaseLife = 2 * time.Minute
	// leaseEvery is how often those who wait look.
	leaseEvery = 500 * time.Millisecond
)

// ErrMigrating is wrapped by errors that pass when another process has brought the schema up to date.
var ErrMigrating = errors.New("the schema is being migrated by another process")

// errLease is wrapped by the error of a migration that was silent for too long.
var errLease = errors.New("another process has taken the migration over")

// Plan lists the migrations that this program has, and which of them the keyspace has. It creates nothing. A keyspace
// that does not exist has none; the errors for others are those of Open.
func Plan(ctx context.Context, o Options) (all []Migration, err error) {
	err = withAddress(ctx, o, func(session *gocql.Session) error {
		found, err := look(ctx, session, o.Keyspace)
		all = found.migrations
		return err
	})
	return all, err
}

// Migrate applies what the keyspace lacks, which it creates if need be, and returns what Plan does then. Any number of
// processes may do so at the same time: one goes on, and the others wait for it, as long as ctx allows.
func Migrate(ctx context.Context, o Options) (all []Migration, err error) {
	err = withAddress(ctx, o, func(session *gocql.Session) error {
		all, err = migrate(ctx, session, o)
		return err
	})
	return all, err
}

// Drop removes the keyspace with all that is in it: for benchmarks, each of which has its own.
func Drop(ctx context.Context, o Options) error {
	return withAddress(ctx, o, func(session *gocql.Session) error {
		return session.Query("DROP KEYSPACE IF EXISTS " + o.Keyspace).WithContext(ctx).Exec()
	})
}

// withAddress calls f with a session of the first address that answers. Two nodes that are told at the same moment to
// create the same table may make two of it, so every process tells the same one.
func withAddress(ctx context.Context, o Options, f func(*gocql.Session) error) error {
	config, err := configure(&o)
	if err != nil {
		return err
	}
	config.DisableInitialHostLookup = true
	config.SerialConsistency = gocql.LocalSerial
	var errs []error
	for _, host := range config.Hosts {
		one := *config
		one.Hosts = []string{host}
		session, err := connect(ctx, one)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		err = f(session)
		session.Close()
		if err != nil {
			return fmt.Errorf("schema of keyspace %s in Cassandra at %s: %w%s", o.Keyspace, host, err, hint(err))
		}
		return nil
	}
	return errors.Join(errs...)
}

// ensureSchema returns when the keyspace is as this program needs it. Whoever comes to a new one makes its tables; one
// of an earlier version is left to an operator, since programs of before may still work with it.
func ensureSchema(ctx context.Context, o Options) error {
	return withAddress(ctx, o, func(session *gocql.Session) error {
		found, err := look(ctx, session, o.Keyspace)
		if err != nil {
			return err
		}
		if found.empty() {
			_, err := migrate(ctx, session, o)
			return err
		}
		left := pending(found.migrations)
		if len(left) == 0 {
			return found.check(o.Keyspace)
		}
		// Somebody may be making them. Who has ended since the first look shows in the second.
		if owner, err := leaseOwner(ctx, session, o.Keyspace, found); err != nil || owner != "" {
			return errors.Join(err, fmt.Errorf("%w: %s", ErrMigrating, owner))
		}
		if found, err = look(ctx, session, o.Keyspace); err != nil {
			return err
		}
		if left = pending(found.migrations); len(left) == 0 {
			return found.check(o.Keyspace)
		}
		return &VersionError{Keyspace: o.Keyspace, Older: true, Detail: fmt.Sprintf(
			"its schema is older than this program: %d of %d migrations are missing, %04d_%s the first",
			len(left), len(migrations), left[0].Version, left[0].Name)}
	})
}

func migrate(ctx context.Context, session *gocql.Session, o Options) ([]Migration, error) {
	// IF NOT EXISTS leaves a keyspace alone that an operator has made with other replicas.
	create := fmt.Sprintf(
		"CREATE KEYSPACE IF NOT EXISTS %s WITH replication = {'class': 'NetworkTopologyStrategy', 'replication_factor': %d}",
		o.Keyspace, cmp.Or(o.Replication, defaultReplication))
	m := &migrator{session: session, keyspace: o.Keyspace, owner: leaseName()}
	if err := m.change(ctx, create); err != nil {
		return nil, err
	}
	for _, statement := range statementsOf(Schema) {
		if strings.Contains(statement, " schema_") {
			if err := m.change(ctx, m.qualify(statement)); err != nil {
				return nil, err
			}
		}
	}
	if err := m.lock(ctx); err != nil {
		return nil, err
	}
	all, err := m.apply(ctx)
	return all, errors.Join(err, m.unlock(ctx))
}

// migrator applies migrations while it has the lease.
type migrator struct {
	session  *gocql.Session
	keyspace string
	owner    string
}

// leaseName is different for every attempt, and tells an operator whose it is.
func leaseName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s, process %d, %s", host, os.Getpid(), rand.Text()[:8])
}

func (m *migrator) apply(ctx context.Context) ([]Migration, error) {
	found, err := look(ctx, m.session, m.keyspace)
	if err != nil {
		return nil, err
	}
	for i := range found.migrations {
		step := &found.migrations[i]
		if !step.AppliedAt.IsZero() {
			continue
		}
		for _, statement := range statementsOf(step.text) {
			if err := m.renew(ctx); err != nil {
				return nil, err
			}
			if err := m.change(ctx, m.qualify(statement)); err != nil {
				return nil, fmt.Errorf("migration %04d_%s: %w", step.Version, step.Name, err)
			}
		}
		step.AppliedAt = time.Now().UTC().Truncate(time.Millisecond)
		note := "INSERT INTO " + m.keyspace + ".schema_migrations (version, name, checksum, applied_at) VALUES (?, ?, ?, ?)"
		err := m.session.Query(note, step.Version, step.Name, step.Checksum, step.AppliedAt).WithContext(ctx).Exec()
		if err != nil {
			return nil, fmt.Errorf("note migration %04d_%s: %w", step.Version, step.Name, err)
		}
	}
	if found, err = look(ctx, m.session, m.keyspace); err != nil {
		return nil, err
	}
	return found.migrations, found.check(m.keyspace)
}

// change carries a statement out and waits until all nodes agree on what the schema is then.
func (m *migrator) change(ctx context.Context, statement string) error {
	err := m.session.Query(statement).WithContext(ctx).Exec()
	if err == nil {
		err = m.session.AwaitSchemaAgreement(ctx)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", strings.SplitN(statement, " (", 2)[0], err)
	}
	return nil
}

func (m *migrator) qualify(statement string) string {
	return changeOf.ReplaceAllString(statement, "${1} "+m.keyspace+".${2}")
}

// lock waits for the lease.
func (m *migrator) lock(ctx context.Context) error {
	take := "INSERT INTO " + m.keyspace + ".schema_lease (name, owner) VALUES ('migrate', ?) IF NOT EXISTS USING TTL ?"
	for {
		holder := map[string]any{}
		ok, err := m.session.Query(take, m.owner, int(leaseLife.Seconds())).WithContext(ctx).MapScanCAS(holder)
		if err != nil {
			return fmt.Errorf("take the lease of migrations: %w", err)
		}
		if ok || holder["owner"] == m.owner { // the driver may have asked twice
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %v: %w", ErrMigrating, holder["owner"], ctx.Err())
		case <-time.After(leaseEvery):
		}
	}
}

func (m *migrator) renew(ctx context.Context) error {
	keep := "UPDATE " + m.keyspace + ".schema_lease USING TTL ? SET owner = ? WHERE name = 'migrate' IF owner = ?"
	holder := map[string]any{}
	ok, err := m.session.Query(keep, int(leaseLife.Seconds()), m.owner, m.owner).WithContext(ctx).MapScanCAS(holder)
	if err != nil {
		return fmt.Errorf("keep the lease of migrations: %w", err)
	}
	if !ok {
		return fmt.Errorf("%w: %v", errLease, holder["owner"])
	}
	return nil
}

// unlock gives the lease back, also when ctx has ended.
func (m *migrator) unlock(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), connectTimeout)
	defer cancel()
	give := "DELETE FROM " + m.keyspace + ".schema_lease WHERE name = 'migrate' IF owner = ?"
	_, err := m.session.Query(give, m.owner).WithContext(ctx).MapScanCAS(map[string]any{})
	if err != nil {
		return fmt.Errorf("give the lease of migrations back, which ends in %s: %w", leaseLife, err)
	}
	return nil
}

// leaseOwner is empty if nobody has the lease.
func leaseOwner(ctx context.Context, session *gocql.Session, keyspace string, found *schema) (owner string, err error) {
	if found.tables["schema_lease"] == nil {
		return "", nil
	}
	err = session.Query("SELECT owner FROM " + keyspace + ".schema_lease WHERE name = 'migrate'").WithContext(ctx).
		Consistency(gocql.Consistency(gocql.LocalSerial)).Scan(&owner)
	if errors.Is(err, gocql.ErrNotFound) {
		err = nil
	}
	return owner, err
}
