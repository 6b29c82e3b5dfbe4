package servers

import (
	"context"
	"errors"
	"path/filepath"
	"strconv"

	"github.com/redis/go-redis/v9"

	"freshet/internal/access"
)

// Redis starts one Redis server. It keeps nothing on disk unless Settings say so: after a Kill, and after a Stop, it is
// empty.
func Redis(ctx context.Context, o Options) (*Server, error) {
	program, err := find("redis-server", "Redis", "redis-server")
	if err != nil {
		return nil, err
	}
	s, err := prepare("redis", o, 1, 1)
	if err != nil {
		return nil, err
	}
	port := s.ports.numbers[0]
	config := filepath.Join(s.dir, "redis.conf")
	secured := map[string]string{}
	if o.Secure != nil {
		if secured, err = o.Secure.redis(s.dir, port); err != nil {
			return nil, s.abandon(err)
		}
	}
	err = writeSettings(config, " ", map[string]string{
		"bind":       "127.0.0.1",
		"port":       strconv.Itoa(port),
		"dir":        strconv.Quote(s.dir),
		"save":       `""`,
		"appendonly": "no",
	}, secured, o.Settings)
	if err != nil {
		return nil, s.abandon(err)
	}
	s.nodes = []*node{{name: "redis", address: loopback(port), process: &process{
		name: "Redis", program: program, args: []string{config}, dir: s.dir, log: filepath.Join(s.dir, "redis.log"),
	}}}
	a, err := o.Secure.access()
	if err != nil {
		return nil, s.abandon(err)
	}
	s.serves = func(ctx context.Context) error { return pingRedis(ctx, loopback(port), a) }
	return s.open(ctx)
}

// pingRedis is answered with an error while the server still loads its data.
func pingRedis(ctx context.Context, address string, a access.Access) error {
	client := redis.NewClient(&redis.Options{
		Addr: address, TLSConfig: a.TLS, Username: a.User, Password: a.Password.Reveal(), MaxRetries: -1,
		DisableIdentity: true, ContextTimeoutEnabled: true,
	})
	return errors.Join(client.Ping(ctx).Err(), client.Close())
}
