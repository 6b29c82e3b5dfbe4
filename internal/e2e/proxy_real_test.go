//go:build real

package e2e

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// network is what lies between processes and servers; the API has a way of its own to Redis.
type network struct{ kafka, redis, apiRedis, cassandra *proxy }

func newNetwork(t *testing.T) *network {
	return &network{kafka: newProxy(t), redis: newProxy(t), apiRedis: newProxy(t), cassandra: newProxy(t)}
}

// lead says where the servers are.
func (n *network) lead(b backends) {
	n.kafka.to(b.kafka.Addrs()[0])
	n.redis.to(b.redis.Addrs()[0])
	n.apiRedis.to(b.redis.Addrs()[0])
	n.cassandra.to(b.cassandra.Addrs()[0])
}

// proxy passes TCP connections on, slowly or not at all. Its methods may be called from any goroutine.
type proxy struct {
	listener net.Listener
	running  sync.WaitGroup
	passed   atomic.Int64 // bytes, both ways
	turned   atomic.Int64 // connections that were refused or broken

	mu     sync.Mutex
	target string
	delay  time.Duration // of every byte, each way
	flows  chan struct{} // closed while bytes flow
	broken bool          // connections are closed as they come
	open   map[net.Conn]struct{}
	closed chan struct{}
}

// newProxy listens, and ends with the test.
func newProxy(t *testing.T) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", freePort(t))
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, open: map[net.Conn]struct{}{}, flows: make(chan struct{}), closed: make(chan struct{})}
	close(p.flows)
	p.running.Go(p.accept)
	t.Cleanup(func() {
		close(p.closed)
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		p.breakAll()
		p.running.Wait()
	})
	return p
}

func (p *proxy) address() string { return p.listener.Addr().String() }

func (p *proxy) to(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

// slow delays every byte from now on.
func (p *proxy) slow(delay time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = delay
}

// hold lets nothing through, and breaks nothing: what is sent arrives after release.
func (p *proxy) hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.flows = make(chan struct{})
}

func (p *proxy) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.flows)
}

// cut breaks all connections, and those to come until mend.
func (p *proxy) cut() {
	p.mu.Lock()
	p.broken = true
	p.mu.Unlock()
	p.breakAll()
}

func (p *proxy) mend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.broken = false
}

func (p *proxy) breakAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		_ = c.Close() // its copier sees it
		p.turned.Add(1)
	}
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		p.running.Go(func() { p.serve(client) })
	}
}

func (p *proxy) serve(client net.Conn) {
	defer func() { _ = client.Close() }()
	p.mu.Lock()
	target, broken := p.target, p.broken
	p.mu.Unlock()
	if broken {
		p.turned.Add(1)
		return
	}
	server, err := net.Dial("tcp", target)
	if err != nil {
		return // the server is away: the client sees its connection end
	}
	defer func() { _ = server.Close() }()
	if !p.keep(client, server) {
		return
	}
	defer p.forget(client, server)
	var both sync.WaitGroup
	both.Go(func() { p.pass(client, server) })
	both.Go(func() { p.pass(server, client) })
	both.Wait()
}

func (p *proxy) keep(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broken {
		return false
	}
	for _, c := range conns {
		p.open[c] = struct{}{}
	}
	return true
}

func (p *proxy) forget(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		delete(p.open, c)
	}
}

type chunk struct {
	data []byte
	due  time.Time
}

// pass copies one way until an end is closed, and then closes both.
func (p *proxy) pass(from, to net.Conn) {
	chunks := make(chan chunk, 1024)
	gone := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		defer close(gone)
		for c := range chunks {
			if !p.await(c.due) {
				return
			}
			if _, err := to.Write(c.data); err != nil {
				return
			}
			p.passed.Add(int64(len(c.data)))
		}
	})
	for buffer := make([]byte, 64<<10); ; {
		n, err := from.Read(buffer)
		p.mu.Lock()
		delay := p.delay
		p.mu.Unlock()
		if n > 0 {
			select {
			case chunks <- chunk{append([]byte(nil), buffer[:n]...), time.Now().Add(delay)}:
			case <-gone:
				err = errors.Join(err, io.ErrClosedPipe)
			}
		}
		if err != nil {
			break
		}
	}
	close(chunks)
	writer.Wait()
	_, _ = from.Close(), to.Close()
}

// await waits until bytes are due and flow; false when the proxy ends.
func (p *proxy) await(due time.Time) bool {
	p.mu.Lock()
	flows := p.flows
	p.mu.Unlock()
	select {
	case <-flows:
	case <-p.closed:
		return false
	}
	left := time.Until(due)
	if left <= 0 {
		return true
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-p.closed:
		return false
	}
}
