//go:build real

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"freshet/internal/access/accesstest"
	"freshet/internal/admin"
	"freshet/internal/servers"
)

// secured is Kafka, Redis and Cassandra that want TLS and a password, and what freshet needs to reach them.
type secured struct {
	backends
	t               *testing.T
	ca, strangers   string // files
	password, wrong string // files
	flags           map[string]string
}

func deploySecured(t *testing.T) *secured {
	t.Helper()
	const user, password = "freshet", "correct-horse"
	authority := accesstest.New(t)
	files := authority.Issue("127.0.0.1")
	d := &secured{
		t: t, ca: authority.CA, strangers: accesstest.New(t).CA,
		password: filepath.Join(t.TempDir(), "password"), wrong: filepath.Join(t.TempDir(), "wrong"),
	}
	for file, text := range map[string]string{d.password: password, d.wrong: "another"} {
		if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o := servers.Options{QuickSchema: true, Secure: &servers.Secure{
		Keystore: files.Both, Cert: files.Cert, Key: files.Key, CA: authority.CA, User: user, Password: password,
	}}
	begun := time.Now()
	d.backends = startServers(t, o, nil)
	t.Logf("servers after %s", since(begun))
	d.flags = map[string]string{
		"kafka": d.kafka.Addrs()[0], "redis": d.redis.Addrs()[0], "cassandra": d.cassandra.Addrs()[0],
		"partitions": "2", "zones": "8", "replication": "1", "min-in-sync": "1",
	}
	for _, server := range []string{"kafka", "redis", "cassandra"} {
		d.flags[server+"-tls-ca"], d.flags[server+"-user"] = d.ca, user
		d.flags[server+"-password-file"] = d.password
	}
	return d
}

// args are the flags, some of them changed: "name=value".
func (d *secured) args(changes ...string) []string {
	args := []string{}
	for name, value := range d.flags {
		if !slices.ContainsFunc(changes, func(c string) bool { return strings.HasPrefix(c, name+"=") }) {
			args = append(args, "--"+name+"="+value)
		}
	}
	for _, c := range changes {
		if !strings.HasSuffix(c, "=") {
			args = append(args, "--"+c)
		}
	}
	return args
}

// TestRealDeployment runs every role as a process of its own, on servers that want TLS and a password.
func TestRealDeployment(t *testing.T) {
	t.Parallel()
	d := deploySecured(t)
	t.Run("check", d.check)
	t.Run("refused", d.refused)
	t.Run("roles", d.roles)
}

func (d *secured) check(t *testing.T) {
	for _, tt := range []struct {
		changes string
		code    int
		says    string
	}{
		{"", 0, "tables are missing"},
		{"kafka-password-file=" + d.wrong, 1, "kafka at " + d.flags["kafka"] + " fails at authentication"},
		{"redis-password-file=" + d.wrong, 1, "redis at " + d.flags["redis"] + " fails at authentication"},
		{"cassandra-password-file=" + d.wrong, 1, "cassandra at " + d.flags["cassandra"] + " fails at authentication"},
		{"kafka-tls-ca=" + d.strangers, 1, "kafka at " + d.flags["kafka"] + " fails at tls"},
		{"redis-tls-ca=" + d.strangers, 1, "redis at " + d.flags["redis"] + " fails at tls"},
		{"cassandra-tls-ca=" + d.strangers, 1, "cassandra at " + d.flags["cassandra"] + " fails at tls"},
		{"kafka-tls-ca=", 1, "kafka at " + d.flags["kafka"] + " fails at authentication"},
		{"cassandra-tls-ca=", 1, "cassandra at " + d.flags["cassandra"] + " fails at authentication"},
		{"replication=3", 1, "kafka at " + d.flags["kafka"] + " fails at brokers"},
	} {
		code, output := tool(t, append([]string{"check"}, d.args(strings.Fields(tt.changes)...)...)...)
		if code != tt.code || !strings.Contains(output, tt.says) || strings.Contains(output, "correct-horse") {
			t.Errorf("%s: exit code %d, want %d and %q:\n%s", tt.changes, code, tt.code, tt.says, output)
		}
	}
}

// refused: a process ends at once when trying again does not help, and says why.
func (d *secured) refused(t *testing.T) {
	for _, tt := range []struct{ changes, says string }{
		{"kafka-password-file=" + d.wrong, "kafka refuses"},
		{"kafka-tls-ca=" + d.strangers, "kafka refuses"},
		{"redis-password-file=" + d.wrong, "redis refuses"},
		{"cassandra-password-file=" + d.wrong, "cassandra refuses"},
		{"cassandra-tls-ca=" + d.strangers, "cassandra refuses"},
		{"kafka=127.0.0.1:1 wait=0", "kafka cannot be reached"},
		{"cassandra=127.0.0.1:1 wait=0", "cassandra cannot be reached"},
	} {
		args := append([]string{"run", "all", "--listen=127.0.0.1:0", "--admin=127.0.0.1:0"},
			d.args(strings.Fields(tt.changes)...)...)
		code, output := tool(t, args...)
		if code != 1 || !strings.Contains(output, tt.says) || strings.Contains(output, "correct-horse") {
			t.Errorf("%s: exit code %d, want 1 and %q:\n%s", tt.changes, code, tt.says, output)
		}
	}
}

// member is a process that runs a role.
type member struct {
	*process
	admin string
}

func (d *secured) run(t *testing.T, role, name string, changes ...string) member {
	t.Helper()
	listen, operators := freePort(t), freePort(t)
	args := append([]string{"run", role, "--listen=" + listen, "--admin=" + operators, "--name=" + name,
		"--data=" + filepath.Join(t.TempDir(), name)}, d.args(changes...)...)
	return member{execute(t, listen, args...), operators}
}

func (m member) awaitReady() {
	m.t.Helper()
	await(m.t, "a member is ready", func() (bool, string) {
		if m.silent.Load() {
			m.t.Fatalf("it has ended: %s", m.stderr())
		}
		code, output := tool(m.t, "check", "--ready", m.admin)
		return code == 0, output
	})
}

// partitions are those of posts that the member's fanout has.
func (m member) partitions(client *http.Client) []int32 {
	m.t.Helper()
	a, err := request(client, http.MethodGet, "http://"+m.admin+admin.GroupsPath, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	var groups []admin.Group
	if err := json.Unmarshal(a.body, &groups); err != nil {
		m.t.Fatal(err)
	}
	var partitions []int32
	for _, g := range groups {
		for _, c := range g.Claims {
			if c.Topic == "freshet.posts" {
				partitions = append(partitions, c.Partition)
			}
		}
	}
	return partitions
}

func (d *secured) roles(t *testing.T) {
	const accounts, follows = 24, 3
	client := connections(t)
	api := d.run(t, "api", "api-1")
	members := []member{api}
	for _, role := range []string{"directory", "following", "archive"} {
		members = append(members, d.run(t, role, role+"-1"))
	}
	fanouts := []member{}
	for i := range 3 {
		fanouts = append(fanouts, d.run(t, "fanout", fmt.Sprint("fanout-", i)))
	}
	for _, m := range append(members, fanouts...) {
		m.awaitReady()
	}
	var idle, victim member
	await(t, "two of three have a partition, and one says that it has none", func() (bool, string) {
		owned := []string{}
		idle, victim = member{}, member{}
		for _, m := range fanouts {
			partitions := m.partitions(client)
			owned = append(owned, fmt.Sprint(partitions))
			switch len(partitions) {
			case 0:
				idle = m
			case 1:
				victim = m
			}
		}
		return idle.process != nil && victim.process != nil, strings.Join(owned, " ")
	})
	if code, output := tool(t, "check", "--ready", idle.admin); code != 0 || !strings.Contains(output, "as a spare") ||
		idle.logged("this process has no partition") == "" {
		t.Errorf("a process without a partition does not say so: %d %s %s", code, output, idle.stderr())
	}

	// Posting needs neither Redis nor Cassandra, at the start either.
	alone := d.run(t, "api", "api-2", "redis=127.0.0.1:1", "cassandra=127.0.0.1:1")
	alone.awaitReady()
	through := api
	do := func(method, path string, body any, status int) answer {
		t.Helper()
		a, err := request(client, method, through.url()+"/v1/"+path, body)
		if err != nil || a.status != status {
			t.Errorf("%s %s: %v %v", method, path, a, err)
		}
		return a
	}
	name := func(i int) string { return fmt.Sprint("a", i%accounts) }
	for i := range accounts {
		do(http.MethodPut, "accounts/"+name(i), nil, http.StatusCreated)
	}
	for i := range accounts {
		for j := 1; j <= follows; j++ {
			do(http.MethodPut, "accounts/"+name(i)+"/following/"+name(i+j), nil, http.StatusNoContent)
		}
	}
	feeds := map[string][]string{} // newest first
	post := func(i int) {
		t.Helper()
		var made item
		a := do(http.MethodPost, "posts", map[string]string{"author": name(i), "text": "hello"}, http.StatusCreated)
		if err := json.Unmarshal(a.body, &made); err != nil {
			t.Fatal(err)
		}
		for j := range follows + 1 {
			reader := name(i - j + accounts)
			feeds[reader] = append([]string{made.ID}, feeds[reader]...)
		}
	}
	for i := range accounts {
		post(i)
	}
	through = alone
	post(0)
	through = api
	victim.kill()
	died := time.Now()
	var posting sync.WaitGroup
	posting.Go(func() {
		for i := range accounts {
			post(i)
		}
	})
	await(t, "the partition of the one that was killed moves", func() (bool, string) {
		var owned []int32
		for _, m := range fanouts {
			if m.process != victim.process {
				owned = append(owned, m.partitions(client)...)
			}
		}
		return len(owned) == 2, fmt.Sprint(owned)
	})
	took := time.Since(died)
	t.Logf("moved after %s", since(died))
	if took > 15*time.Second {
		t.Errorf("the partition moved after %s, want at most 15 s", took)
	}
	posting.Wait()
	for i := range accounts {
		await(t, "the feed of "+name(i)+" is right", func() (bool, string) {
			page, a, err := getPage(client, api.url()+"/v1/accounts/"+name(i)+"/feed", 100, "")
			got := []string{}
			for _, post := range page.Items {
				got = append(got, post.ID)
			}
			return err == nil && page.Complete && slices.Equal(got, feeds[name(i)]), fmt.Sprint(a, err, feeds[name(i)])
		})
	}
}
