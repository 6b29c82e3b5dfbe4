package feeds

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"
)

// ErrOneOfMany is returned by Connect for a single address that is a node of a Redis Cluster: it would be asked for
// what other nodes have.
var ErrOneOfMany = errors.New("redis is a node of a cluster")

// IsMoving says whether Redis has refused commands because their slot is on its way from one node to another, which is
// over in a moment: unlike when Redis is away, others may be answered meanwhile.
func IsMoving(err error) bool { return redis.HasErrorPrefix(err, "TRYAGAIN") }

// checkCluster refuses a single address of a cluster. A server that does not say is none.
func (r *Redis) checkCluster(ctx context.Context) error {
	node, single := r.client.(*redis.Client)
	if !single {
		return nil
	}
	if info, err := node.Info(ctx, "cluster").Result(); err == nil && strings.Contains(info, "cluster_enabled:1") {
		return fmt.Errorf("%w, of which two or more addresses are needed", ErrOneOfMany)
	}
	return nil
}

// lookAgain has the client of a cluster ask, soon, who has which slots. By itself it would do so once a minute, and
// when a node says that it has given a slot away, but not when a node is gone: a fail-over of seconds would take a
// minute.
func (r *Redis) lookAgain(ctx context.Context) {
	if cluster, ok := r.client.(*redis.ClusterClient); ok {
		cluster.ReloadState(ctx)
	}
}

// repeatNothing keeps the client of a cluster from sending commands again that a node may have carried out, which it
// would do when a connection breaks, as Conn forbids. What a node has refused because the slot is elsewhere goes there,
// in its order: all commands of a zone are in one slot.
type repeatNothing struct{}

// DialHook implements redis.Hook.
func (repeatNothing) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements redis.Hook. Everything that writes is a pipeline.
func (repeatNothing) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

// ProcessPipelineHook implements redis.Hook.
func (repeatNothing) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, commands []redis.Cmder) error {
		wrapped := make([]redis.Cmder, len(commands))
		for i, command := range commands {
			wrapped[i] = once{command}
		}
		return next(ctx, wrapped)
	}
}

// once is a command that is not to be sent again.
type once struct{ redis.Cmder }

// NoRetry implements redis.Cmder.
func (once) NoRetry() bool { return true }
