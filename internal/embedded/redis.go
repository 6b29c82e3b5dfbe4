package embedded

import (
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// Redis is a Redis server in this process, in memory.
type Redis struct {
	mini *miniredis.Miniredis
	stop chan struct{}
	done sync.WaitGroup
}

// StartRedis starts a server that listens on a loopback address. What it holds is gone when it closes. It evicts
// nothing, and answers CONFIG GET maxmemory-policy accordingly; other settings are unknown to it.
func StartRedis(listen string) (*Redis, error) {
	if _, err := splitLoopback("the embedded Redis", listen); err != nil {
		return nil, err
	}
	r := &Redis{mini: miniredis.NewMiniRedis(), stop: make(chan struct{})}
	if err := r.mini.StartAddr(listen); err != nil {
		return nil, portError("the embedded Redis", listen, err)
	}
	if err := r.mini.Server().Register("CONFIG", config); err != nil {
		r.mini.Close()
		return nil, portError("the embedded Redis", listen, err)
	}
	r.done.Go(r.expire)
	return r, nil
}

// Addr is where the server listens.
func (r *Redis) Addr() string { return r.mini.Addr() }

// Close stops the server and waits for its goroutines.
func (r *Redis) Close() {
	close(r.stop)
	r.done.Wait()
	r.mini.Close()
}

// expireEvery is how late a key may expire, at least.
const expireEvery = 200 * time.Millisecond

// expire lets time pass: in miniredis a TTL stands still until it is told. A round visits every key and holds the
// server up meanwhile, so the pause grows with what the round took, and expiring stays below a twentieth of the time.
func (r *Redis) expire() {
	last := time.Now()
	pause := time.NewTimer(expireEvery)
	defer pause.Stop()
	for {
		select {
		case <-r.stop:
			return
		case <-pause.C:
		}
		now := time.Now()
		r.mini.FastForward(now.Sub(last))
		last = now
		pause.Reset(max(expireEvery, 20*time.Since(now)))
	}
}
