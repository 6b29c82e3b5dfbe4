package servers

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
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
	err = writeSettings(config, " ", map[string]string{
		"bind":       "127.0.0.1",
		"port":       strconv.Itoa(port),
		"dir":        strconv.Quote(s.dir),
		"save":       `""`,
		"appendonly": "no",
	}, o.Settings)
	if err != nil {
		return nil, s.abandon(err)
	}
	s.nodes = []*node{{name: "redis", address: loopback(port), process: &process{
		name: "Redis", program: program, args: []string{config}, dir: s.dir, log: filepath.Join(s.dir, "redis.log"),
	}}}
	s.serves = func(ctx context.Context) error { return pingRedis(ctx, loopback(port)) }
	return s.open(ctx)
}

// pingRedis is answered with an error while the server still loads its data.
func pingRedis(ctx context.Context, address string) (err error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprint(conn, "PING\r\n"); err != nil {
		return err
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err == nil && strings.TrimSpace(answer) != "+PONG" {
		err = fmt.Errorf("it answers a PING with %q", answer)
	}
	return err
}
