package check

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// network is the hops from the name to TLS. config is nil for a server without TLS.
func (t target) network(ctx context.Context, config *tls.Config) bool {
	host, port, err := net.SplitHostPort(t.address)
	if err != nil {
		return t.note(hopDNS, "", fmt.Errorf("the address is not host:port: %w", err))
	}
	looking, cancel := context.WithTimeout(ctx, hopTimeout)
	defer cancel()
	ips, err := net.DefaultResolver.LookupHost(looking, host)
	if !t.note(hopDNS, strings.Join(ips, " "), err) {
		return false
	}
	conn, err := dial(ctx, ips, port)
	if !t.note(hopTCP, "connected", err) {
		return false
	}
	defer func() { _ = conn.Close() }() // nothing was written
	if config == nil {
		return true
	}
	config = config.Clone()
	if config.ServerName == "" {
		config.ServerName = host
	}
	client := tls.Client(conn, config)
	shaking, cancel := context.WithTimeout(ctx, hopTimeout)
	defer cancel()
	err = client.HandshakeContext(shaking)
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w: %w", errHungUp, err)
	}
	found := ""
	if err == nil {
		state := client.ConnectionState()
		shown := state.PeerCertificates[0]
		found = fmt.Sprintf("%s, certificate of %s until %s", tls.VersionName(state.Version), shown.Subject,
			shown.NotAfter.UTC().Format(time.DateOnly))
	}
	return t.note(hopTLS, found, err)
}

// errHungUp is how a server answers a handshake of which it understands nothing.
var errHungUp = errors.New("the server hangs up during the handshake")

// dial tries the addresses of a name until one answers.
func dial(ctx context.Context, ips []string, port string) (conn net.Conn, err error) {
	ctx, cancel := context.WithTimeout(ctx, hopTimeout)
	defer cancel()
	for _, ip := range ips {
		conn, err = new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(ip, port))
		if err == nil {
			return conn, nil
		}
	}
	return nil, err
}
