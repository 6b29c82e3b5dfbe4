package main

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"freshet/internal/app/apptest"
	"freshet/internal/auth"
	"freshet/internal/config"
)

func keysTest(t *testing.T, code int, args ...string) result {
	t.Helper()
	r := command(t, "", append([]string{"keys"}, args...)...)
	if r.code != code {
		t.Fatalf("keys %v: exit code %d, want %d: %s", args, r.code, code, r.stderr)
	}
	return r
}

// A key is made, opens the API, is shown in the list without its text, and is revoked.
func TestKeys(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "keys.json")
	var made shownKey
	r := keysTest(t, 0, "create", "--auth-keys", file, "--name", "backend", "--expires", "24h", "-o", "json")
	if err := json.Unmarshal([]byte(r.stdout), &made); err != nil || !auth.IsKey(made.Key) || made.ExpiresAt == nil {
		t.Fatalf("%s %v", r.stdout, err)
	}
	r = keysTest(t, 0, "create", "--auth-keys", file, "--name", "reports", "--scopes", "read")
	reader := strings.TrimSpace(r.stdout)
	if !auth.IsKey(reader) {
		t.Errorf("create shows %q", reader)
	}
	table := keysTest(t, 0, "list", "--auth-keys", file).stdout
	for _, want := range []string{made.ID, "backend", "read,write", "reports", "never"} {
		if !strings.Contains(table, want) {
			t.Errorf("the list lacks %q:\n%s", want, table)
		}
	}
	lines := keysTest(t, 0, "list", "--auth-keys", file, "-o", "jsonl").stdout
	if strings.Count(lines, "\n") != 2 || strings.Contains(lines, "hash") || strings.Contains(lines, made.Key) {
		t.Errorf("the list: %s", lines)
	}

	cfg := config.Default()
	cfg.Partitions, cfg.Zones, cfg.DataDir = 2, 4, t.TempDir()
	cfg.Auth.KeysFile = file
	a := apptest.Start(t, cfg)
	put := func(key string) int {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPut, a.APIURL()+"/v1/accounts/ann", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if key != "" {
			request.Header.Set("Authorization", "Bearer "+key)
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		http.DefaultClient.CloseIdleConnections()
		_ = answer.Body.Close() // nothing is read
		return answer.StatusCode
	}
	for key, want := range map[string]int{
		"": http.StatusUnauthorized, made.Key: http.StatusCreated, reader: http.StatusForbidden,
	} {
		if got := put(key); got != want {
			t.Errorf("status %d, want %d", got, want)
		}
	}
	if r := keysTest(t, 0, "revoke", made.ID, "--auth-keys", file); !strings.Contains(r.stdout, "revoked") {
		t.Errorf("revoke says %q", r.stdout)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for begun := time.Now(); put(made.Key) != http.StatusUnauthorized; <-tick.C {
		if time.Since(begun) > patience {
			t.Fatal("the process goes on with a key that was revoked")
		}
	}

	keysTest(t, 1, "revoke", made.ID, "--auth-keys", file)
	keysTest(t, 1, "list", "--auth-keys", file+"x")
	for _, wrong := range [][]string{
		{"list"}, {"create", "--auth-keys", file}, {"create", "--auth-keys", file, "--name", "x", "--scopes", "all"},
		{"create", "--auth-keys", file, "--name", "x", "--expires", "-1h"}, {"revoke", "--auth-keys", file}, {"steal"},
		{"list", "--auth-keys", file, "-o", "xml"},
	} {
		keysTest(t, 2, wrong...)
	}
}

// A process that others can reach asks them who they are, or does not start.
func TestAnOpenAPIIsRefused(t *testing.T) {
	for _, args := range [][]string{{"dev", "--listen", ":0"}, {"run", "all", "--listen", "0.0.0.0:0"}} {
		r := command(t, "", args...)
		if r.code != exitUsage || !strings.Contains(r.stderr, "--auth-keys") {
			t.Errorf("%v: exit code %d: %s", args, r.code, r.stderr)
		}
	}
	r := command(t, "", "dev", "--demo", "--auth-keys", "x")
	if r.code != exitUsage || !strings.Contains(r.stderr, "--demo") {
		t.Errorf("exit code %d: %s", r.code, r.stderr)
	}
	if r := command(t, "", "dev", "--auth-keys", filepath.Join(t.TempDir(), "none"), "--listen", "127.0.0.1:0", "--admin",
		"127.0.0.1:0", "--kafka-listen", "127.0.0.1:0", "--redis-listen", "127.0.0.1:0"); r.code != 1 ||
		!strings.Contains(r.stderr, "--auth-keys") {
		t.Errorf("a file that is not there: exit code %d: %s", r.code, r.stderr)
	}
}
