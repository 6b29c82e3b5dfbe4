package kafka

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kfake"

	"freshet/internal/access"
	"freshet/internal/access/accesstest"
)

func TestNewSecurity(t *testing.T) {
	secret := access.NewSecret("secret")
	settings := access.Settings{TLS: true}
	secure, err := settings.Load("kafka", "FRESHET_NONE")
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		access    access.Access
		mechanism string
		says      string
	}{
		"nobody":               {access.Access{}, "scram-sha-512", ""},
		"SCRAM without TLS":    {access.Access{User: "ada", Password: secret}, "scram-sha-256", ""},
		"plain with TLS":       {access.Access{User: "ada", Password: secret, TLS: secure.TLS}, "plain", ""},
		"plain without TLS":    {access.Access{User: "ada", Password: secret}, "plain", "--kafka-tls"},
		"an unknown mechanism": {access.Access{User: "ada", Password: secret}, "gssapi", "plain, scram-sha-256"},
		"no password":          {access.Access{User: "ada"}, "scram-sha-512", "no password for --kafka-user ada"},
		"nobody's password":    {access.Access{Password: secret}, "scram-sha-512", "no --kafka-user"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := NewSecurity(tt.access, tt.mechanism)
			if tt.says == "" && err != nil {
				t.Errorf("refused: %v", err)
			}
			if tt.says != "" && (!errors.Is(err, ErrSecurity) || !strings.Contains(err.Error(), tt.says)) {
				t.Errorf("got %v, want a refusal that says %q", err, tt.says)
			}
		})
	}
}

// Both kinds of clients get in with each mechanism, and neither does with another password, or when it does not trust
// the broker.
func TestSecurity(t *testing.T) {
	authority, stranger := accesstest.New(t), accesstest.New(t)
	files := authority.Issue("127.0.0.1")
	for _, mechanism := range Mechanisms() {
		t.Run(mechanism, func(t *testing.T) {
			const user, password = "ada", "correct, horse=battery"
			fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.TLS(files.Server(t)), kfake.EnableSASL(),
				kfake.Superuser(strings.ToUpper(mechanism), user, password))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(fake.Close)
			security := func(ca, password string) Security {
				t.Helper()
				settings := access.Settings{TLSCA: ca, User: user}
				a, err := settings.Load("kafka", "FRESHET_NONE")
				if err != nil {
					t.Fatal(err)
				}
				a.Password = access.NewSecret(password)
				s, err := NewSecurity(a, mechanism)
				if err != nil {
					t.Fatal(err)
				}
				return s
			}
			reach := func(s Security) (goka, admin error) {
				cfg := s.Config("test")
				cfg.Metadata.Retry.Max = 0
				client, goka := sarama.NewClient(fake.ListenAddrs(), cfg)
				if goka == nil {
					goka = client.Close()
				}
				_, admin = Reach(context.Background(), fake.ListenAddrs(), ClientOptions(s.Config)...)
				return goka, admin
			}
			if goka, admin := reach(security(authority.CA, password)); goka != nil || admin != nil {
				t.Errorf("not let in: %v; %v", goka, admin)
			}
			goka, admin := reach(security(authority.CA, "another"))
			if goka == nil || admin == nil { // kfake says no more than that: it hangs up
				t.Errorf("with another password: %v; %v", goka, admin)
			}
			goka, admin = reach(security(stranger.CA, password))
			if goka == nil || admin == nil || !strings.Contains(admin.Error(), "unknown authority") {
				t.Errorf("to a stranger: %v; %v", goka, admin)
			}
			if goka, admin := reach(Security{}); goka == nil || admin == nil {
				t.Errorf("without TLS: %v; %v", goka, admin)
			}
		})
	}
}
