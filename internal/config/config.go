// Package config is what an operator can set, with defaults and their reasons, and one place that refuses nonsense.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"time"

	"freshet"
	"freshet/internal/access"
	"freshet/internal/auth"
	"freshet/internal/feeds"
)

// Role is a part of freshet that can run in a process of its own.
type Role string

// The roles. Each group is a role, and so is the API.
const (
	API       Role = "api"
	Directory Role = "directory"
	Following Role = "following"
	Fanout    Role = "fanout"
	Archive   Role = "archive"
)

// Roles lists them all.
var Roles = []Role{API, Directory, Following, Fanout, Archive}

// ParseRoles reads role names; "all" is every role.
func ParseRoles(names []string) ([]Role, error) {
	var roles []Role
	for _, name := range names {
		if name == "all" {
			return Roles, nil
		}
		if !slices.Contains(Roles, Role(name)) {
			return nil, fmt.Errorf("unknown role %q: want all, or some of %s", name, list(Roles))
		}
		if !slices.Contains(roles, Role(name)) {
			roles = append(roles, Role(name))
		}
	}
	if len(roles) == 0 {
		return nil, fmt.Errorf("which role? all, or some of %s", list(Roles))
	}
	return roles, nil
}

func list(roles []Role) string {
	names := make([]string, len(roles))
	for i, role := range roles {
		names[i] = string(role)
	}
	return strings.Join(names, " ")
}

// Config is the settings of a process.
type Config struct {
	// Roles that this process runs.
	Roles []Role
	// Apart lets roles run although others would have to share an embedded server with them: for benchmarks of some.
	Apart bool

	// Kafka, Redis and Cassandra are addresses of servers. Empty means: start one here; instead of Cassandra, the post
	// store is then on the local disk.
	Kafka, Redis, Cassandra []string

	// Access to each of them.
	KafkaAccess, RedisAccess, CassandraAccess access.Settings
	// KafkaSASL is the mechanism by which a user of Kafka proves to be one: a name that kafka.Mechanisms has.
	KafkaSASL string

	// Wait is how long a start tries to reach a server that it cannot do without; 0: once.
	Wait time.Duration

	// Name is the process's own, the same after each restart, and no other's that runs the same role. Its partitions then
	// wait for it for as long as a session lasts. Empty: it has none, and they go to others when it stops.
	Name string

	// DataDir keeps tables, and what is started here. Empty means a temporary directory that goes when the process ends.
	DataDir string

	// CursorKey is a file with the key that signs cursors, the same for all API processes of a deployment; it is made if
	// it is missing. Empty: one in DataDir.
	CursorKey string

	// Where to listen: the API, the operators' listener, and the servers that are started here.
	Listen, Admin, KafkaListen, RedisListen string

	// Auth says whose requests the API answers. Without any credentials it answers everybody's, and may listen on loopback
	// only.
	Auth auth.Config
	// RateLimit is how many cost units a second each caller of the API has, 0 for no limit, and RateBurst how many it may
	// save up; 0 is what comes in ten seconds.
	RateLimit float64
	RateBurst int
	// Accept says when a post is accepted: AcceptLog or AcceptStore. It may be changed at any time, process by process.
	Accept string
	// MaxInFlight is how many requests the API works on at once; more are told to come again.
	MaxInFlight int
	// MaxStreams is how many streams of feeds the API keeps open; one takes some 30 KB.
	MaxStreams int

	// AuditRate is how many accounts' feeds an API process compares with their definition each second; 0: none.
	AuditRate float64

	// Prefix begins the names of all topics and groups.
	Prefix string
	// Partitions of each keyed topic: a power of two, fixed for the life of the deployment. 8 suit one machine, 128 a
	// cluster that grows.
	Partitions int32
	// Replication and MinInSync of each topic on servers that were not started here.
	Replication int16
	MinInSync   int
	// StoreReplication is how many nodes of Cassandra keep each post; 0: as many as brokers keep each record.
	StoreReplication int
	// Zones in Redis: fixed for the life of the deployment. Every second a few bytes are written to each.
	Zones int
	// FeedLength is how many posts a cached feed holds.
	FeedLength int
	// PageSize is how many followers a page of a follower tree holds.
	PageSize int
	// PullAbove is how many followers an author may have before its posts are no longer delivered to each of them but read
	// from its outbox by whoever reads a feed; 0: they are always delivered. It may be changed at any time.
	PullAbove int64
	// LogLimit is the length in bytes from which on a block's log is merged into its feeds. Longer logs are merged more
	// rarely, but readers fetch them, and they take memory.
	LogLimit int
	// FlushEntries and FlushBytes bound what waits in a process for the next flush to Redis; past one of them the posts
	// wait in Kafka. An entry takes up to 64 bytes of memory.
	FlushEntries, FlushBytes int
	// ColdAfter is how many days a feed is kept in Redis without being read; the next read builds it anew.
	ColdAfter int
}

// The ways of accepting a post: when the log has it, from which the archive stores it; or when the post store has saved
// it and then the log has it.
const (
	AcceptLog   = "log"
	AcceptStore = "store"
)

// Addresses on which a process listens, and which tools talk to, unless they are told otherwise.
const (
	DefaultListen      = "127.0.0.1:8080"
	DefaultAdmin       = "127.0.0.1:8081"
	DefaultKafkaListen = "127.0.0.1:19092"
	DefaultRedisListen = "127.0.0.1:16379"
	DefaultKafkaSASL   = "scram-sha-512"
)

// Default is the settings for one machine, everything started here.
func Default() Config {
	return Config{
		Roles:       Roles,
		Listen:      DefaultListen,
		Admin:       DefaultAdmin,
		KafkaListen: DefaultKafkaListen,
		RedisListen: DefaultRedisListen,
		KafkaSASL:   DefaultKafkaSASL,
		Accept:      AcceptLog,
		MaxInFlight: 1024,   // see api.DefaultMaxInFlight
		MaxStreams:  20_000, // see streams.DefaultMost
		Prefix:      freshet.DefaultPrefix,
		Partitions:  8,
		Replication: 3,
		MinInSync:   2,
		// One Redis in this process: more zones than that only cost time.
		Zones:      64,
		FeedLength: feeds.DefaultFeedLength,
		PageSize:   1024,
		// Each further follower costs a delivery of every post, and each followed author that is pulled an outbox of every
		// read of a feed; an outbox that so many read is nearly always in the process.
		PullAbove:    10_000,
		LogLimit:     feeds.DefaultLogLimit,
		FlushEntries: feeds.DefaultMaxEntries,
		FlushBytes:   feeds.DefaultMaxBytes,
		ColdAfter:    feeds.DefaultColdAfter,
	}
}

// Deployment is Default for processes of a cluster.
func Deployment() Config {
	c := Default()
	c.Partitions = 128
	c.Zones = feeds.DefaultZones
	// Longer than servers take that are started together with this process.
	c.Wait = 5 * time.Minute
	return c
}

// Has says whether the process runs a role.
func (c Config) Has(role Role) bool { return slices.Contains(c.Roles, role) }

// NeedsRedis says whether a role of this process reads or writes feeds.
func (c Config) NeedsRedis() bool { return c.anyOf(feedRoles) }

// NeedsStore says whether a role of this process uses the post store.
func (c Config) NeedsStore() bool { return c.anyOf(storeRoles) }

var (
	feedRoles  = []Role{API, Fanout}
	storeRoles = []Role{API, Fanout, Archive}
)

func (c Config) anyOf(roles []Role) bool { return slices.ContainsFunc(roles, c.Has) }

// Keyspace is where the post store of this deployment is in Cassandra.
func (c Config) Keyspace() string { return strings.TrimSuffix(c.Prefix, ".") }

// PostReplicas is how many nodes of Cassandra keep each post.
func (c Config) PostReplicas() int { return cmp.Or(c.StoreReplication, int(c.Replication)) }

// Names are the names of topics and groups.
func (c Config) Names() freshet.Names { return freshet.Names{Prefix: c.Prefix} }

// Layout is where things lie in Redis.
func (c Config) Layout() feeds.Layout { return feeds.Layout{Zones: c.Zones, FeedLength: c.FeedLength} }

// ErrAlone is wrapped by the refusal of a lone role whose server would be started in its own process.
var ErrAlone = errors.New("nobody else could reach a server that is started in this process")

// Validate refuses settings that cannot work. Errors name the flag.
func (c Config) Validate() error {
	if c.Partitions < 1 || c.Partitions&(c.Partitions-1) != 0 || c.Partitions > 1024 {
		return fmt.Errorf("--partitions %d: want a power of two from 1 to 1024", c.Partitions)
	}
	if err := c.Layout().Validate(); err != nil {
		return fmt.Errorf("--zones and --feed-length: %w", err)
	}
	if c.PageSize < 1 || c.PageSize > 65536 {
		return fmt.Errorf("--page-size %d: want 1 to 65536", c.PageSize)
	}
	if c.PullAbove < 0 {
		return fmt.Errorf("--pull-above %d: want a number of followers, or 0 to deliver every post", c.PullAbove)
	}
	if err := c.validateWriter(); err != nil {
		return err
	}
	if c.Replication < 1 || c.MinInSync < 1 || c.MinInSync > int(c.Replication) {
		return fmt.Errorf("--replication %d and --min-in-sync %d: want at least 1, and no more in sync than there are",
			c.Replication, c.MinInSync)
	}
	if c.StoreReplication < 0 {
		return fmt.Errorf("--store-replication %d: want a number of nodes, or 0 for that of --replication",
			c.StoreReplication)
	}
	if strings.ContainsAny(c.Prefix, " \t\n/:") || len(c.Prefix) > 100 {
		return fmt.Errorf("--prefix %q: want letters, digits, '.', '_' or '-'", c.Prefix)
	}
	if c.Wait < 0 {
		return fmt.Errorf("--wait %s: want a duration, or 0 to try once", c.Wait)
	}
	if !processName.MatchString(c.Name) {
		return fmt.Errorf("--name %q: want letters, digits, '.', '_' or '-', up to 200", c.Name)
	}
	if len(c.Cassandra) > 0 && !keyspacePrefix.MatchString(c.Prefix) {
		return fmt.Errorf("--prefix %q with --cassandra: want small letters, digits and '_', then '.': without the dot it "+
			"is the keyspace, which must be the deployment's own", c.Prefix)
	}
	if err := c.validateAPI(); err != nil {
		return err
	}
	return c.validateAlone()
}

// validateWriter refuses what the feed writer cannot work with. There is no 0 for "never": feeds that nobody reads
// would fill Redis.
func (c Config) validateWriter() error {
	for _, setting := range []struct {
		flag               string
		value, least, most int
		unit               string
	}{
		{"--log-limit", c.LogLimit, 1 << 10, 16 << 20, "bytes"},
		{"--flush-entries", c.FlushEntries, 1, 64 << 20, "entries"},
		{"--flush-bytes", c.FlushBytes, 1, 1 << 30, "bytes"},
		{"--cold-after", c.ColdAfter, 1, 10_000, "days"},
	} {
		if setting.value < setting.least || setting.value > setting.most {
			return fmt.Errorf("%s %d: want %d to %d %s", setting.flag, setting.value, setting.least, setting.most, setting.unit)
		}
	}
	return nil
}

// ErrOpen is wrapped by the refusal of an API that everybody could reach and use.
var ErrOpen = errors.New("the API would do what anybody asks")

// validateAPI refuses to listen where others can reach the API without asking them who they are.
func (c Config) validateAPI() error {
	switch {
	case c.Accept != AcceptLog && c.Accept != AcceptStore:
		return fmt.Errorf("--accept %q: want %q, to publish posts and have them stored from the log, or %q, to save them in "+
			"the post store before they are published", c.Accept, AcceptLog, AcceptStore)
	case (c.Auth.JWKS != "") != (c.Auth.Issuer != "") || (c.Auth.JWKS != "") != (c.Auth.Audience != ""):
		return errors.New("--auth-jwks, --auth-issuer and --auth-audience: tokens need all three, or leave all of them out")
	case c.RateLimit < 0 || c.RateBurst < 0:
		return fmt.Errorf("--rate-limit %g and --rate-burst %d: want 0 or more", c.RateLimit, c.RateBurst)
	case c.RateBurst > 0 && c.RateLimit == 0:
		return fmt.Errorf("--rate-burst %d: there is no limit without --rate-limit", c.RateBurst)
	case c.MaxInFlight < 1:
		return fmt.Errorf("--max-in-flight %d: want at least 1", c.MaxInFlight)
	case c.AuditRate < 0 || c.AuditRate > 10_000:
		return fmt.Errorf("--audit-rate %g: want 0 to 10000 accounts a second", c.AuditRate)
	case c.MaxStreams < 1:
		return fmt.Errorf("--max-streams %d: want at least 1", c.MaxStreams)
	case c.Has(API) && !c.Auth.Enabled() && !loopback(c.Listen):
		return fmt.Errorf("--listen %s without authentication: %w; give it service keys with --auth-keys, tokens with "+
			"--auth-jwks, --auth-issuer and --auth-audience, or an address of loopback", c.Listen, ErrOpen)
	}
	return nil
}

var processName = regexp.MustCompile(`^[a-zA-Z0-9._-]{0,200}$`)

// loopback says whether only this machine can reach an address. A name other than localhost could be anything.
func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false // listening says what is wrong with it
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// keyspacePrefix makes one keyspace of each prefix, and never the same of two.
var keyspacePrefix = regexp.MustCompile(`^[a-z][a-z0-9_]{0,47}\.$`)

// validateAlone refuses to start a server here that the roles running elsewhere would need as well.
func (c Config) validateAlone() error {
	if c.Apart || len(c.Roles) == len(Roles) {
		return nil
	}
	alone := func(flag string, users ...Role) error {
		return fmt.Errorf("role %s without %s: %w, and %s runs elsewhere; name the server, or run all roles here",
			list(c.Roles), flag, ErrAlone, list(slices.DeleteFunc(users, c.Has)))
	}
	if len(c.Kafka) == 0 {
		return alone("--kafka", slices.Clone(Roles)...)
	}
	if len(c.Cassandra) == 0 && c.part(storeRoles) {
		inside := slices.DeleteFunc(slices.Clone(storeRoles), func(r Role) bool { return !c.Has(r) })
		return fmt.Errorf("role %s alone: the post store is embedded, so %s run in one process; or name Cassandra with "+
			"--cassandra", list(inside), list(storeRoles))
	}
	if len(c.Redis) == 0 && c.part(feedRoles) {
		return alone("--redis", slices.Clone(feedRoles)...)
	}
	return nil
}

// part says whether some of the roles run here, and some do not.
func (c Config) part(roles []Role) bool {
	return c.anyOf(roles) && slices.ContainsFunc(roles, func(r Role) bool { return !c.Has(r) })
}
