package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLogin(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("of the file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := Deployment()
	c.KafkaAccess.User, c.KafkaAccess.PasswordFile = "ada", file
	c.RedisAccess.TLS = true
	t.Setenv(RedisPasswordVariable, "of the environment")
	login, err := c.Login()
	if err != nil || login.Kafka.User != "ada" || login.Kafka.Password.Reveal() != "of the file" ||
		login.Redis.Password.Reveal() != "of the environment" || login.Redis.TLS == nil || login.Cassandra.TLS != nil {
		t.Errorf("got %+v, %v", login, err)
	}
	if shown := fmt.Sprintf("%v %+v %#v %+v", login, login, login, c); strings.Contains(shown, "of the") {
		t.Errorf("a password is shown: %s", shown)
	}
	for want, change := range map[string]func(c *Config){
		"--kafka-sasl":              func(c *Config) { c.KafkaSASL = "magic" },
		"--kafka-tls":               func(c *Config) { c.KafkaSASL = "plain" },
		"--redis-tls-ca":            func(c *Config) { c.RedisAccess.TLSCA = "/none" },
		"--cassandra-password-file": func(c *Config) { c.CassandraAccess.User = "ada" },
		"--cassandra-user":          func(c *Config) { c.CassandraAccess.PasswordFile = file },
		"--kafka-user":              func(c *Config) { c.KafkaAccess.User = "" },
	} {
		c := c
		change(&c)
		if _, err := c.Login(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want a refusal that names %s", err, want)
		}
	}
}
