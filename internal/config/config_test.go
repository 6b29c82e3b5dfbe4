package config

import (
	"errors"
	"strings"
	"testing"

	"freshet/internal/auth"
)

func TestValidateRolesAlone(t *testing.T) {
	const kafka, redis, cassandra = "k", "r", "c"
	tests := []struct {
		roles, servers string // separated by spaces
		refused        string // what the refusal names; empty: none
		alone          bool   // it wraps ErrAlone
	}{
		{"all", "", "", false},
		{"all", cassandra, "", false},
		{"directory following", "", "--kafka", true},
		{"directory following", kafka, "", false},
		{"directory fanout", "k r", "--cassandra", false},
		{"archive", kafka, "--cassandra", false},
		{"archive", "k c", "", false},
		{"api", "k c", "--redis", true},
		{"fanout archive", "k c", "--redis", true},
		{"fanout", "k r c", "", false},
		{"api", "k r c", "", false},
		{"api fanout archive", kafka, "", false},
		{"api fanout", "k c", "", false},
		{"api", "r c", "--kafka", true},
	}
	for _, test := range tests {
		c := Deployment()
		var err error
		if c.Roles, err = ParseRoles(strings.Fields(test.roles)); err != nil {
			t.Fatal(err)
		}
		for _, server := range strings.Fields(test.servers) {
			switch server {
			case kafka:
				c.Kafka = []string{"127.0.0.1:1"}
			case redis:
				c.Redis = []string{"127.0.0.1:2"}
			case cassandra:
				c.Cassandra = []string{"127.0.0.1:3"}
			}
		}
		err = c.Validate()
		switch {
		case test.refused == "" && err != nil:
			t.Errorf("%s with %q: refused: %v", test.roles, test.servers, err)
		case test.refused != "" && (err == nil || !strings.Contains(err.Error(), test.refused)):
			t.Errorf("%s with %q: got %v, want a refusal that names %s", test.roles, test.servers, err, test.refused)
		case errors.Is(err, ErrAlone) != test.alone:
			t.Errorf("%s with %q: %v wraps ErrAlone: %t", test.roles, test.servers, err, !test.alone)
		}
	}
}

func TestAccept(t *testing.T) {
	for accept, ok := range map[string]bool{AcceptLog: true, AcceptStore: true, "": false, "both": false, "Log": false} {
		c := Default()
		if c.Accept != AcceptLog {
			t.Errorf("the default is %q", c.Accept)
		}
		c.Accept = accept
		err := c.Validate()
		if (err == nil) != ok || err != nil && (!strings.Contains(err.Error(), "--accept") ||
			!strings.Contains(err.Error(), AcceptLog) || !strings.Contains(err.Error(), AcceptStore)) {
			t.Errorf("--accept %q: %v", accept, err)
		}
	}
}

func TestPullAbove(t *testing.T) {
	for limit, ok := range map[int64]bool{0: true, 1: true, 10_000: true, 1 << 40: true, -1: false} {
		c := Default()
		c.PullAbove = limit
		if err := c.Validate(); (err == nil) != ok || err != nil && !strings.Contains(err.Error(), "--pull-above") {
			t.Errorf("--pull-above %d: %v", limit, err)
		}
	}
}

func TestWriterSettings(t *testing.T) {
	set := map[string]func(c *Config, value int){
		"--log-limit":     func(c *Config, value int) { c.LogLimit = value },
		"--flush-entries": func(c *Config, value int) { c.FlushEntries = value },
		"--flush-bytes":   func(c *Config, value int) { c.FlushBytes = value },
		"--cold-after":    func(c *Config, value int) { c.ColdAfter = value },
	}
	for flag, set := range set {
		for value, ok := range map[int]bool{-1: false, 0: false, 2000: true, 1 << 31: false} {
			c := Default()
			set(&c, value)
			if err := c.Validate(); (err == nil) != ok || err != nil && !strings.Contains(err.Error(), flag) {
				t.Errorf("%s %d: %v", flag, value, err)
			}
		}
	}
}

func TestKeyspace(t *testing.T) {
	for prefix, want := range map[string]string{
		"freshet.": "freshet", "blue_2.": "blue_2",
		"": "", "freshet": "", "Freshet.": "", "a.b.": "", "a-b.": "", "2a.": "", ".": "",
	} {
		c := Default()
		c.Prefix = prefix
		if err := c.Validate(); err != nil {
			t.Errorf("prefix %q without Cassandra: %v", prefix, err)
		}
		c.Cassandra = []string{"127.0.0.1:3"}
		err := c.Validate()
		if want == "" && (err == nil || !strings.Contains(err.Error(), "--prefix")) {
			t.Errorf("prefix %q with Cassandra: got %v, want a refusal that names --prefix", prefix, err)
		}
		if want != "" && (err != nil || c.Keyspace() != want) {
			t.Errorf("prefix %q with Cassandra: keyspace %q, %v, want %s", prefix, c.Keyspace(), err, want)
		}
	}
}

func TestWhoReachesTheAPI(t *testing.T) {
	keys := auth.Config{KeysFile: "keys.json"}
	tokens := auth.Config{JWKS: "https://id.example/keys", Issuer: "https://id.example", Audience: "freshet"}
	for _, tt := range []struct {
		listen string
		auth   auth.Config
		ok     bool
	}{
		{"127.0.0.1:8080", auth.Config{}, true}, {"[::1]:8080", auth.Config{}, true}, {"localhost:0", auth.Config{}, true},
		{"127.9.9.9:8080", auth.Config{}, true},
		{":8080", auth.Config{}, false}, {"0.0.0.0:8080", auth.Config{}, false}, {"[::]:8080", auth.Config{}, false},
		{"10.0.0.1:8080", auth.Config{}, false}, {"feeds.example:8080", auth.Config{}, false},
		{"localhost.example:8080", auth.Config{}, false}, {"8080", auth.Config{}, false},
		{":8080", keys, true}, {":8080", tokens, true}, {"127.0.0.1:8080", keys, true},
	} {
		c := Default()
		c.Listen, c.Auth = tt.listen, tt.auth
		switch err := c.Validate(); {
		case tt.ok && err != nil:
			t.Errorf("%s, %+v: refused: %v", tt.listen, tt.auth, err)
		case !tt.ok && (!errors.Is(err, ErrOpen) || !strings.Contains(err.Error(), "--auth-keys") ||
			!strings.Contains(err.Error(), "--auth-jwks")):
			t.Errorf("%s: %v, want a refusal that names the flags", tt.listen, err)
		}
	}
	c := Deployment()
	c.Roles, c.Kafka, c.Listen = []Role{Directory}, []string{"k"}, ":8080"
	if err := c.Validate(); err != nil {
		t.Errorf("a process without the API: %v", err)
	}
	for _, incomplete := range []auth.Config{
		{JWKS: "x"}, {JWKS: "x", Issuer: "x"}, {JWKS: "x", Audience: "x"}, {Issuer: "x"}, {KeysFile: "x", Audience: "x"},
	} {
		c := Default()
		if c.Auth = incomplete; c.Validate() == nil {
			t.Errorf("%+v is taken", incomplete)
		}
	}
	for _, change := range []func(*Config){
		func(c *Config) { c.RateLimit = -1 }, func(c *Config) { c.RateBurst = 5 },
		func(c *Config) { c.RateLimit, c.RateBurst = 1, -1 }, func(c *Config) { c.MaxInFlight = 0 },
	} {
		c := Default()
		if change(&c); c.Validate() == nil {
			t.Errorf("%+v is taken", c)
		}
	}
}
