package cassandrastore

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"
)

// Files of migrations, NNNN_name.cql, numbered from 1. One that was released is never changed: it was applied
// somewhere. Each statement has to bear being carried out twice, for whoever applies one may die before noting it.
//
//go:embed migrations/*.cql
var migrationFiles embed.FS

// Migration is a step of the schema, and whether a keyspace has it.
type Migration struct {
	Version int    `json:"version"`
	Name    string `json:"name"`
	// Checksum is that of the file in this program, SHA-256 in hexadecimal.
	Checksum string `json:"checksum"`
	// AppliedAt is zero while it is pending.
	AppliedAt time.Time `json:"applied_at,omitzero"`

	text string
}

// migrations are those of this program, in their order.
var migrations = loadMigrations()

func loadMigrations() []Migration {
	entries, err := migrationFiles.ReadDir("migrations")
	if err != nil {
		panic(err) // they are in the program
	}
	all := make([]Migration, len(entries))
	for i, entry := range entries {
		text, err := migrationFiles.ReadFile(path.Join("migrations", entry.Name()))
		if err != nil {
			panic(err)
		}
		number, name, _ := strings.Cut(strings.TrimSuffix(entry.Name(), ".cql"), "_")
		version, err := strconv.Atoi(number)
		if err != nil || version != i+1 || len(number) != 4 {
			panic(fmt.Sprintf("migration %s: want number %04d", entry.Name(), i+1))
		}
		sum := sha256.Sum256(text)
		all[i] = Migration{Version: version, Name: name, Checksum: hex.EncodeToString(sum[:]), text: string(text)}
	}
	return all
}

// VersionError says that a keyspace has another schema than this program needs. Trying again does not help.
type VersionError struct {
	Keyspace string
	// Older: freshet migrate brings it up to date.
	Older  bool
	Detail string
}

func (e *VersionError) Error() string {
	remedy := "run the program that has made it, or a later one"
	if e.Older {
		remedy = "run freshet migrate, with the flags of this process for Cassandra"
	}
	return fmt.Sprintf("keyspace %s: %s; %s", e.Keyspace, e.Detail, remedy)
}

// compare says which of the program's migrations a keyspace has. It refuses one that has migrations which the program
// does not know, or knows otherwise: what its tables are like then, nobody can say.
func compare(keyspace string, known, applied []Migration) ([]Migration, error) {
	all := append([]Migration(nil), known...)
	for _, a := range applied {
		if a.Version < 1 || a.Version > len(known) {
			return nil, &VersionError{Keyspace: keyspace, Detail: fmt.Sprintf(
				"it has schema version %d (%s), and this program knows versions up to %d", a.Version, a.Name, len(known))}
		}
		k := &all[a.Version-1]
		if a.Checksum != k.Checksum {
			return nil, &VersionError{Keyspace: keyspace, Detail: fmt.Sprintf(
				"migration %04d_%s was applied with the checksum %.12s…, and in this program it has %.12s…",
				a.Version, k.Name, a.Checksum, k.Checksum)}
		}
		k.AppliedAt = a.AppliedAt
	}
	return all, nil
}

func pending(all []Migration) (left []Migration) {
	for _, m := range all {
		if m.AppliedAt.IsZero() {
			left = append(left, m)
		}
	}
	return left
}
