package embedded

import (
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

func startRedis(t *testing.T) *Redis {
	t.Helper()
	r, err := StartRedis("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func redisClient(t *testing.T, r *Redis, protocol int) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: r.Addr(), Protocol: protocol})
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func TestRedisExpiresKeys(t *testing.T) {
	c := redisClient(t, startRedis(t), 3)
	ctx := deadline(t)
	start := time.Now()
	if err := c.Set(ctx, "short", "1", time.Second).Err(); err != nil {
		t.Fatal(err)
	}
	if err := c.Set(ctx, "long", "1", time.Hour).Err(); err != nil {
		t.Fatal(err)
	}
	if err := c.Get(ctx, "short").Err(); err != nil {
		t.Fatalf("before it expires: %v", err)
	}
	for {
		err := c.Get(ctx, "short").Err()
		if errors.Is(err, redis.Nil) {
			break
		}
		if err != nil {
			t.Fatalf("waiting for the key to expire: %v", err)
		}
	}
	if took := time.Since(start); took < 700*time.Millisecond {
		t.Errorf("expired after %s, want about a second", took)
	}
	left, err := c.TTL(ctx, "long").Result()
	if err != nil || left < 59*time.Minute || left > time.Hour-500*time.Millisecond {
		t.Errorf("the other key: %s left, %v", left, err)
	}
}

func TestRedisConfigGet(t *testing.T) {
	r := startRedis(t)
	for _, protocol := range []int{2, 3} {
		c := redisClient(t, r, protocol)
		for pattern, want := range map[string]int{
			"maxmemory-policy": 1, "MAXMEMORY-POLICY": 1, "maxmemory*": 2, "unknown": 0,
		} {
			got, err := c.ConfigGet(deadline(t), pattern).Result()
			if err != nil || len(got) != want {
				t.Errorf("RESP%d, CONFIG GET %s: got %v, %v, want %d settings", protocol, pattern, got, err, want)
			}
			if want > 0 && got["maxmemory-policy"] != "noeviction" {
				t.Errorf("RESP%d, CONFIG GET %s: got %v, want noeviction", protocol, pattern, got)
			}
		}
		if err := c.ConfigSet(deadline(t), "maxmemory-policy", "allkeys-lru").Err(); err == nil {
			t.Error("CONFIG SET was accepted")
		}
	}
}
