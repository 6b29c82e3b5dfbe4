package access_test

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"freshet/internal/access"
	"freshet/internal/access/accesstest"
)

func TestSecretIsNeverShown(t *testing.T) {
	const value = "correct horse"
	a := access.Access{User: "ada", Password: access.NewSecret(value)}
	var shown bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		fmt.Fprintf(&shown, verb+verb+verb, a, &a, a.Password)
	}
	for _, handler := range []slog.Handler{slog.NewTextHandler(&shown, nil), slog.NewJSONHandler(&shown, nil)} {
		slog.New(handler).Info("it", "access", a, "password", a.Password, "pointer", &a.Password)
	}
	if err := json.NewEncoder(&shown).Encode([]any{a.User, a.Password, &a.Password}); err != nil {
		t.Fatal(err)
	}
	text := shown.String()
	if strings.Contains(text, value) || strings.Contains(text, fmt.Sprintf("%x", value)) ||
		strings.Contains(text, fmt.Sprintf("%X", value)) {
		t.Errorf("the secret is shown: %s", text)
	}
	if !strings.Contains(text, "(secret)") || !strings.Contains(text, "ada") {
		t.Errorf("nothing tells that there is a password, or whose: %s", text)
	}
	if a.Password.Reveal() != value || access.NewSecret("").String() != "" {
		t.Error("Reveal does not reveal, or nothing is a secret")
	}
}

func TestLoad(t *testing.T) {
	authority := accesstest.New(t)
	own := authority.Issue("localhost")
	write := func(name, text string) string {
		file := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	const variable = "FRESHET_ACCESS_TEST"
	t.Setenv(variable, "from the environment")
	for name, tt := range map[string]struct {
		settings access.Settings
		says     string // of the refusal; empty: none
		tls      bool
		password string
	}{
		"nothing":              {access.Settings{}, "", false, "from the environment"},
		"TLS":                  {access.Settings{TLS: true}, "", true, "from the environment"},
		"a CA":                 {access.Settings{TLSCA: authority.CA}, "", true, "from the environment"},
		"a name":               {access.Settings{TLSName: "kafka"}, "", true, "from the environment"},
		"a certificate":        {access.Settings{TLSCert: own.Cert, TLSKey: own.Key}, "", true, "from the environment"},
		"a password file":      {access.Settings{PasswordFile: write("p", "from the file\r\n")}, "", false, "from the file"},
		"no CA there":          {access.Settings{TLSCA: "/none"}, "--x-tls-ca", true, ""},
		"a CA without any":     {access.Settings{TLSCA: write("ca", "text")}, "--x-tls-ca", true, ""},
		"half a certificate":   {access.Settings{TLSKey: own.Key}, "--x-tls-cert and --x-tls-key", true, ""},
		"another's key":        {access.Settings{TLSCert: authority.CA, TLSKey: own.Key}, "--x-tls-key", true, ""},
		"no password there":    {access.Settings{PasswordFile: "/none"}, "--x-password-file", false, ""},
		"an empty password":    {access.Settings{PasswordFile: write("p", "\n")}, "--x-password-file", false, ""},
		"a password of spaces": {access.Settings{PasswordFile: write("p", "  ")}, "", false, "  "},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := tt.settings.Load("x", variable)
			if tt.says != "" {
				if !errors.Is(err, access.ErrSettings) || !strings.Contains(err.Error(), tt.says) {
					t.Errorf("got %v, want a refusal that names %s", err, tt.says)
				}
				return
			}
			if err != nil || (a.TLS != nil) != tt.tls || a.Password.Reveal() != tt.password {
				t.Errorf("got TLS %t, password %q, %v", a.TLS != nil, a.Password.Reveal(), err)
			}
			if a.TLS != nil && (a.TLS.MinVersion < tls.VersionTLS12 || a.TLS.InsecureSkipVerify ||
				a.TLS.ServerName != tt.settings.TLSName || (a.TLS.RootCAs != nil) != (tt.settings.TLSCA != "")) {
				t.Errorf("got %+v", a.TLS)
			}
		})
	}
}
