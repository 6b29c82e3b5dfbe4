package servers

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"

	"github.com/redis/go-redis/v9"

	"freshet/internal/access"
)

// Redis starts one Redis server, or a cluster. Nothing is kept on disk unless Settings say so, but for who is who in a
// cluster: after a Kill, and after a Stop, a node is empty.
func Redis(ctx context.Context, o Options) (*Server, error) {
	switch {
	case o.RedisNodes > 1 && o.RedisNodes != clusterMasters+clusterReplicas:
		return nil, fmt.Errorf("%w: %d of Redis: want 1 or %d", ErrNodes, o.RedisNodes, clusterMasters+clusterReplicas)
	case o.RedisNodes > 1 && o.Secure != nil:
		return nil, fmt.Errorf("%w: a cluster of Redis with users and TLS", ErrNodes)
	}
	program, err := find("redis-server", "Redis", "redis-server")
	if err != nil {
		return nil, err
	}
	if o.RedisNodes > 1 {
		return redisCluster(ctx, program, o)
	}
	s, err := prepare("redis", o, 1, 1)
	if err != nil {
		return nil, err
	}
	port := s.ports.numbers[0]
	secured := map[string]string{}
	if o.Secure != nil {
		if secured, err = o.Secure.redis(s.dir, port); err != nil {
			return nil, s.abandon(err)
		}
	}
	a, err := o.Secure.access()
	if err == nil {
		err = s.addRedis("Redis", program, s.dir, port, secured, o.Settings)
	}
	if err != nil {
		return nil, s.abandon(err)
	}
	s.serves = func(ctx context.Context) error { return pingRedis(ctx, loopback(port), a) }
	return s.open(ctx)
}

// addRedis writes the configuration of a node and adds it.
func (s *Server) addRedis(name, program, dir string, port int, settings ...map[string]string) error {
	base := map[string]string{
		"bind":       "127.0.0.1",
		"port":       strconv.Itoa(port),
		"dir":        strconv.Quote(dir),
		"save":       `""`,
		"appendonly": "no",
	}
	config := filepath.Join(dir, "redis.conf")
	if err := writeSettings(config, " ", append([]map[string]string{base}, settings...)...); err != nil {
		return err
	}
	s.nodes = append(s.nodes, &node{name: name, address: loopback(port), process: &process{
		name: name, program: program, args: []string{config}, dir: dir, log: filepath.Join(dir, "redis.log"),
	}})
	return nil
}

// pingRedis is answered with an error while the server still loads its data.
func pingRedis(ctx context.Context, address string, a access.Access) error {
	client := redis.NewClient(&redis.Options{
		Addr: address, TLSConfig: a.TLS, Username: a.User, Password: a.Password.Reveal(), MaxRetries: -1,
		DisableIdentity: true, ContextTimeoutEnabled: true,
	})
	return errors.Join(client.Ping(ctx).Err(), client.Close())
}
