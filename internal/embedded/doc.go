// Package embedded starts what freshet needs when it was given no address of it: a Kafka broker (kafka.go) and a Redis
// server (redis.go), each in this process on a port of the loopback interface, and the lock on the directory that they
// keep their data in (lock.go). Both speak the real protocol, so nothing else in the program knows of them.
package embedded

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
)

// ErrPortInUse is wrapped, with the address, by the error for a port on which something listens already.
var ErrPortInUse = errors.New("the port is in use")

// portError turns the error of listening on address into one that wraps ErrPortInUse where that is the cause.
func portError(server, address string, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("start %s on %s: %w", server, address, ErrPortInUse)
	}
	return fmt.Errorf("start %s on %s: %w", server, address, err)
}

// splitLoopback checks an address to listen on. Neither server asks who is there, so only the loopback interface will
// do. Port 0 is any free port.
func splitLoopback(server, address string) (port int, err error) {
	host, p, err := net.SplitHostPort(address)
	if err != nil {
		return 0, fmt.Errorf("start %s on %s: %w", server, address, err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return 0, fmt.Errorf("start %s on %s: it asks for no password, so it listens on a loopback address only, such as "+
			"127.0.0.1:%s", server, address, p)
	}
	port, err = strconv.Atoi(p)
	if err != nil || port < 0 || port > 65535 {
		return 0, fmt.Errorf("start %s on %s: the port is a number from 0 to 65535", server, address)
	}
	return port, nil
}
