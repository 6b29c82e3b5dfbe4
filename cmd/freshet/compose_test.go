package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"freshet/internal/config"
)

// docker is the folder under test, from here.
const docker = "../../docker"

// composeFile is what this test looks at of docker/compose.yaml.
type composeFile struct {
	Services map[string]composeService
	Volumes  map[string]any
}

type composeService struct {
	Image       string
	Build       struct{ Context, Dockerfile string }
	Entrypoint  []string
	Command     yaml.Node // a list, or nothing
	Environment map[string]string
	Volumes     []string
	Ports       []string
	DependsOn   yaml.Node `yaml:"depends_on"`
}

func readCompose(t *testing.T) composeFile {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(docker, "compose.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var c composeFile
	if err := yaml.Unmarshal(text, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

func (s composeService) command(t *testing.T) []string {
	t.Helper()
	var words []string
	if err := s.Command.Decode(&words); err != nil && s.Command.Kind != 0 {
		t.Fatalf("a command is no list: %v", err)
	}
	return words
}

// freshet are the services that run the program.
func (c composeFile) freshet() []string {
	var names []string
	for name, s := range c.Services {
		if s.Image == "freshet" && slices.Contains(s.Entrypoint, "run") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// flagsOf parses a command line as the program would, and returns its roles and the flags.
func flagsOf(t *testing.T, words []string) (roles []string, value func(name string) string) {
	t.Helper()
	cmd, rest, err := rootCommand().Find(words)
	if err == nil {
		err = cmd.ParseFlags(rest)
	}
	if err != nil {
		t.Fatalf("%s: %v", strings.Join(words, " "), err)
	}
	return cmd.Flags().Args(), func(name string) string {
		flag := cmd.Flags().Lookup(name)
		if flag == nil {
			t.Fatalf("there is no flag --%s", name)
		}
		return flag.Value.String()
	}
}

// Every role runs, with flags that the program has, on servers that the file has.
func TestComposeCommands(t *testing.T) {
	c := readCompose(t)
	address := regexp.MustCompile(`[a-z0-9-]+:\d+`)
	ran := map[config.Role]int{}
	names := map[string]bool{}
	key := c.Services["service-key"]
	_, made := flagsOf(t, append(slices.Clone(key.Entrypoint), key.command(t)...)[1:])
	for _, name := range c.freshet() {
		s := c.Services[name]
		words := append(slices.Clone(s.Entrypoint), s.command(t)...)
		if words[0] != "/freshet" {
			t.Errorf("%s runs %s, which is not in the image", name, words[0])
		}
		args, value := flagsOf(t, words[1:])
		roles, err := config.ParseRoles(args)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		cfg := config.Deployment()
		cfg.Roles, cfg.Kafka, cfg.Redis, cfg.Cassandra = roles, []string{"a"}, []string{"b"}, []string{"c"}
		if _, err := fmt.Sscan(value("partitions"), &cfg.Partitions); err != nil {
			t.Fatal(err)
		}
		cfg.Listen, cfg.Auth.KeysFile = value("listen"), value("auth-keys")
		if err := cfg.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if cfg.Has(config.API) && cfg.Auth.KeysFile != made("auth-keys") {
			t.Errorf("%s takes the keys of %s, which nobody makes", name, cfg.Auth.KeysFile)
		}
		for _, role := range roles {
			ran[role]++
		}
		if own := value("name"); own != "" && (own != name || names[own]) {
			t.Errorf("%s goes by the name of %s", name, own)
		}
		names[value("name")] = true
		for _, flag := range []string{"kafka", "redis", "cassandra"} {
			for _, a := range address.FindAllString(value(flag), -1) {
				if host, _, _ := strings.Cut(a, ":"); c.Services[host].Image == "" {
					t.Errorf("%s: --%s names %s, and there is no such service", name, flag, host)
				}
			}
		}
		if !slices.ContainsFunc(s.Volumes, func(v string) bool { return strings.HasSuffix(v, ":"+value("data")) }) {
			t.Errorf("%s: no volume for --data %s", name, value("data"))
		}
		key := filepath.Dir(value("cursor-key"))
		if args[0] == "api" && !slices.Contains(s.Volumes, "keys:"+key) {
			t.Errorf("%s: no volume for --cursor-key in %s that both have", name, key)
		}
		for variable := range s.Environment {
			if !slices.Contains([]string{config.KafkaPasswordVariable, config.RedisPasswordVariable,
				config.CassandraPasswordVariable}, variable) {
				t.Errorf("%s: the program does not read %s", name, variable)
			}
		}
	}
	for _, role := range config.Roles {
		want := 1
		if role == config.API || role == config.Fanout {
			want = 2
		}
		if ran[role] != want {
			t.Errorf("%d processes run %s, want %d", ran[role], role, want)
		}
	}
}

// What the services refer to is there: services, volumes, files, and images with a version.
func TestComposeRefersToWhatIsThere(t *testing.T) {
	c := readCompose(t)
	kinds := map[string]int{}
	published := map[string]string{}
	for name, s := range c.Services {
		image, version, _ := strings.Cut(s.Image, ":")
		kinds[image]++
		if image != "freshet" && (!regexp.MustCompile(`^v?\d+\.\d+`).MatchString(version)) {
			t.Errorf("%s: image %s is not pinned", name, s.Image)
		}
		if image == "freshet" {
			if _, err := os.Stat(filepath.Join(docker, s.Build.Context, s.Build.Dockerfile)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		for _, volume := range s.Volumes {
			from, _, _ := strings.Cut(volume, ":")
			_, named := c.Volumes[from]
			if _, err := os.Stat(filepath.Join(docker, from)); !named && (err != nil || !strings.HasPrefix(from, "./")) {
				t.Errorf("%s: volume %s: there is no such file or volume", name, volume)
			}
		}
		for _, port := range s.Ports {
			if published[port] != "" {
				t.Errorf("%s and %s publish %s", name, published[port], port)
			}
			published[port] = name
		}
		for _, node := range s.DependsOn.Content {
			if node.Kind == yaml.ScalarNode && c.Services[node.Value].Image == "" {
				t.Errorf("%s depends on %s, which is no service", name, node.Value)
			}
		}
	}
	for image, want := range map[string]int{"apache/kafka": 3, "redis": 7, "cassandra": 1, "haproxy": 1,
		"prom/prometheus": 1, "grafana/grafana": 1} {
		if kinds[image] != want {
			t.Errorf("%d services of %s, want %d", kinds[image], image, want)
		}
	}
	if got, want := len(c.Services["redis-cluster"].command(t)), 3; got != want || kinds["redis"] != 7 {
		t.Errorf("the Redis Cluster is not made: %d words", got)
	}
}

// Balancer and Prometheus ask the processes at the ports on which they listen.
func TestComposePorts(t *testing.T) {
	c := readCompose(t)
	listens := map[string]bool{}
	for _, name := range c.freshet() {
		s := c.Services[name]
		_, value := flagsOf(t, append(slices.Clone(s.Entrypoint), s.command(t)...)[1:])
		for _, flag := range []string{"listen", "admin"} {
			host, port, _ := strings.Cut(value(flag), ":")
			if host == "0.0.0.0" {
				listens[name+":"+port] = true
			}
		}
	}
	target := regexp.MustCompile(`\b((?:api|directory|following|archive|fanout)-\d):(\d+)`)
	for _, file := range []string{"haproxy.cfg", "prometheus.yml"} {
		text, err := os.ReadFile(filepath.Join(docker, file))
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]bool{}
		for _, match := range target.FindAllStringSubmatch(string(text), -1) {
			found[match[1]] = true
			if !listens[match[0]] {
				t.Errorf("%s asks %s, where nothing listens", file, match[0])
			}
		}
		for _, name := range c.freshet() {
			if !found[name] && (file == "prometheus.yml" || strings.HasPrefix(name, "api")) {
				t.Errorf("%s does not ask %s", file, name)
			}
		}
		if file == "haproxy.cfg" && !strings.Contains(string(text), "check port 8081") {
			t.Errorf("%s does not ask for readiness", file)
		}
	}
}

// The image runs the program with flags that it has, and its health is asked for at the port that is meant for it.
func TestDockerfile(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(docker, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	list := func(instruction string) []string {
		t.Helper()
		match := regexp.MustCompile(`(?m)^\s*`+instruction+` (\[.*\])$`).FindAllSubmatch(text, -1)
		if match == nil {
			t.Fatalf("there is no %s", instruction)
		}
		var words []string
		if err := yaml.Unmarshal(match[len(match)-1][1], &words); err != nil {
			t.Fatal(err)
		}
		return words
	}
	if got := list("ENTRYPOINT"); !slices.Equal(got, []string{"/freshet"}) {
		t.Errorf("ENTRYPOINT %q", got)
	}
	_, given := flagsOf(t, list("CMD"))
	cfg := config.Default()
	cfg.Listen = given("listen")
	if err := cfg.Validate(); err != nil {
		t.Errorf("CMD: %v", err)
	}
	health := regexp.MustCompile(`(?s)HEALTHCHECK .*?\n {2}CMD (\[.*?\])`).FindSubmatch(text)
	if health == nil {
		t.Fatal("there is no HEALTHCHECK")
	}
	var words []string
	if err := yaml.Unmarshal(health[1], &words); err != nil {
		t.Fatal(err)
	}
	_, value := flagsOf(t, words[1:])
	if _, port, _ := strings.Cut(config.DefaultAdmin, ":"); !strings.HasSuffix(value("ready"), ":"+port) {
		t.Errorf("the health is asked for at %s", value("ready"))
	}
	module, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`(?m)^go (\S+)$`).FindSubmatch(module)[1]
	for _, want := range []string{"FROM golang:" + string(version), "CGO_ENABLED=0", "\nUSER 65532"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("there is no %q", want)
		}
	}
}

// The dashboard shows metrics that the program has.
func TestDashboard(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(docker, "grafana", "dashboards", "freshet.json"))
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("../../internal/admin/admin.go")
	if err != nil {
		t.Fatal(err)
	}
	metrics := regexp.MustCompile(`freshet_\w+`).FindAllString(string(text), -1)
	if len(metrics) == 0 {
		t.Error("it shows none")
	}
	for _, metric := range metrics {
		if !strings.Contains(string(source), `"`+metric+`"`) {
			t.Errorf("there is no metric %s", metric)
		}
	}
}
