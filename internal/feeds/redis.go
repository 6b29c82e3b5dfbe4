package feeds

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"freshet/internal/access"
)

// ErrEvicts is returned by Connect for a Redis that would throw feeds away when it is full.
var ErrEvicts = errors.New("redis may evict keys")

// Redis is the Conn to real servers: one Redis, a Redis Cluster, or miniredis. It is safe for concurrent use.
type Redis struct {
	client    redis.UniversalClient
	addresses string // for errors
	layout    Layout
	// Both are nil for a cluster: there, those who ask one node would wait for the others, and keys have to be looked for.
	gather *gather
	wires  *wires
}

// Connect prepares Redis at the addresses: more than one are a cluster. It refuses a server whose maxmemory-policy is
// not noeviction. The client never repeats a command by itself, but where a cluster has refused it because its slot is
// elsewhere.
func Connect(ctx context.Context, layout Layout, addresses []string, opts ...Option) (*Redis, error) {
	r, err := Prepare(layout, addresses, opts...)
	if err != nil {
		return nil, err
	}
	if err := r.Verify(ctx); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// Prepare is Connect without asking the servers anything. Before Verify has returned nil nothing says that what is
// written to them stays.
func Prepare(layout Layout, addresses []string, opts ...Option) (*Redis, error) {
	if err := layout.Validate(); err != nil {
		return nil, err
	}
	return newRedis(layout, addresses, opts...), nil
}

// Verify asks what Connect asks.
func (r *Redis) Verify(ctx context.Context) error {
	err := r.checkCluster(ctx)
	if err == nil {
		err = r.checkEviction(ctx)
	}
	if err == nil {
		err = r.loadScripts(ctx)
	}
	if err != nil {
		return fmt.Errorf("connect to redis at %s: %w", r.addresses, err)
	}
	return nil
}

// Option is one of Connect.
type Option func(*redis.UniversalOptions)

// WithAccess has the connections use TLS, and log in.
func WithAccess(a access.Access) Option {
	return func(o *redis.UniversalOptions) {
		o.TLSConfig, o.Username, o.Password = a.TLS, a.User, a.Password.Reveal()
	}
}

func newRedis(layout Layout, addresses []string, opts ...Option) *Redis {
	options := &redis.UniversalOptions{
		Addrs:           addresses,
		MaxRetries:      -1,
		DisableIdentity: true,
		ReadTimeout:     10 * time.Second,
		// A Redis that takes connections and answers nothing holds nobody longer than it wants to wait.
		ContextTimeoutEnabled: true,
		WriteTimeout:          10 * time.Second,
		// A flush is megabytes.
		PipelineReadBufferSize:  256 << 10,
		PipelineWriteBufferSize: 256 << 10,
		// Servers that announce their maintenance are somebody's service; asking for it costs a goroutine a node, which the
		// client of a cluster does not always end.
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	for _, opt := range opts {
		opt(options)
	}
	r := &Redis{layout: layout, addresses: strings.Join(addresses, ","), client: redis.NewUniversalClient(options)}
	switch client := r.client.(type) {
	case *redis.Client:
		r.gather = &gather{client: client}
		r.wires = &wires{client: client, layout: layout}
	case *redis.ClusterClient:
		client.AddHook(repeatNothing{})
	}
	return r
}

// Close closes the connections; nothing may be asked any more.
func (r *Redis) Close() error {
	if r.gather != nil {
		r.gather.close()
		r.wires.close()
	}
	return r.client.Close()
}

// eachMaster runs f on every node that takes writes.
func (r *Redis) eachMaster(ctx context.Context, f func(ctx context.Context, node redis.Cmdable) error) error {
	if cluster, ok := r.client.(*redis.ClusterClient); ok {
		return cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error { return f(ctx, node) })
	}
	return f(ctx, r.client)
}

func (r *Redis) checkEviction(ctx context.Context) error {
	return r.eachMaster(ctx, func(ctx context.Context, node redis.Cmdable) error {
		policy, err := evictionPolicy(ctx, node)
		if err == nil && policy != "noeviction" {
			err = fmt.Errorf("%w: maxmemory-policy is %q; set it to noeviction", ErrEvicts, policy)
		}
		return err
	})
}

// evictionPolicy asks for the setting, and where CONFIG is not allowed, for what INFO says of it.
func evictionPolicy(ctx context.Context, node redis.Cmdable) (string, error) {
	settings, refused := node.ConfigGet(ctx, "maxmemory-policy").Result()
	if refused == nil {
		return settings["maxmemory-policy"], nil
	}
	info, err := node.Info(ctx, "memory").Result()
	if err != nil {
		return "", fmt.Errorf("ask for the eviction policy: %w", errors.Join(refused, err))
	}
	for line := range strings.Lines(info) {
		if policy, found := strings.CutPrefix(strings.TrimSpace(line), "maxmemory_policy:"); found {
			return policy, nil
		}
	}
	return "", fmt.Errorf("ask for the eviction policy: %w", refused)
}

func (r *Redis) loadScripts(ctx context.Context) error {
	return r.eachMaster(ctx, func(ctx context.Context, node redis.Cmdable) error {
		for _, script := range scripts {
			if err := script.Load(ctx, node).Err(); err != nil {
				return fmt.Errorf("load scripts: %w", err)
			}
		}
		return nil
	})
}

// Do implements Conn. Commands that a restarted server does not know are taught to it again, and the error is returned
// all the same.
func (r *Redis) Do(ctx context.Context, ops ...Op) error {
	var err error
	if r.wires != nil && onWire(ops) {
		err = r.wires.do(ctx, ops)
	} else {
		err = r.pipeline(ctx, ops)
	}
	if err == nil {
		return nil
	}
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		if again := r.loadScripts(ctx); again != nil {
			err = errors.Join(err, again)
		}
	}
	r.lookAgain(ctx)
	return fmt.Errorf("%w: %w", ErrAway, err)
}

func (r *Redis) pipeline(ctx context.Context, ops []Op) error {
	pipe := r.client.Pipeline()
	answers := r.queueBodies(ctx, pipe, ops)
	if answers == nil {
		for _, op := range ops {
			answers = append(answers, r.queue(ctx, pipe, op))
		}
	}
	if err := r.exec(ctx, pipe); err != nil {
		return err
	}
	for _, answer := range answers {
		if err := answer(); err != nil {
			return err
		}
	}
	return nil
}

// exec runs a pipeline. An error is that of ctx; each command knows whether it has failed.
func (r *Redis) exec(ctx context.Context, pipe redis.Pipeliner) error {
	if commands := pipe.Cmds(); r.gather != nil && len(commands) <= gatherRequest {
		return r.gather.do(ctx, commands)
	}
	_, _ = pipe.Exec(ctx) // the error of the first command that failed; nil replies are no failures
	return nil
}
