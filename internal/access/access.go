// Package access is how a server is reached: whether by TLS and whom that trusts, and who freshet is to the server.
// What every client needs is made here, once.
//
//	access.go  Settings, what an operator says; Access, what a client needs; the one tls.Config
//	secret.go  Secret, which is never shown
package access

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
)

// Settings are what an operator says about a server. The zero value is a server without TLS that asks for no password.
// None of the fields is secret.
type Settings struct {
	// TLS asks for TLS; so does each of the fields below that begin with TLS.
	TLS bool
	// TLSCA is a file with the certificates, in PEM, of who may have signed the server's. Empty: those that the system
	// trusts.
	TLSCA string
	// TLSCert and TLSKey are files, in PEM, with the certificate that this process shows, and its key. Both or none.
	TLSCert, TLSKey string
	// TLSName is the name that the server's certificate has to be for. Empty: the host of the address.
	TLSName string
	// User and PasswordFile are who this process is to the server. Without a file, the password is in the variable of the
	// environment that Load is given.
	User, PasswordFile string
}

// Access is what a client needs. The zero value is a server without TLS that asks for no password.
type Access struct {
	TLS      *tls.Config // nil: without TLS. Not to be changed: clients clone it.
	User     string
	Password Secret
}

// ErrSettings is wrapped by the errors of Load: settings that cannot work, or files that cannot be read.
var ErrSettings = errors.New("cannot be used")

// UsesTLS says whether the settings ask for TLS.
func (s Settings) UsesTLS() bool {
	return s.TLS || s.TLSCA != "" || s.TLSCert != "" || s.TLSKey != "" || s.TLSName != ""
}

// Load reads the files. Errors name the flag, which begins with --server-; variable is the environment's password.
func (s Settings) Load(server, variable string) (Access, error) {
	a := Access{User: s.User}
	var err error
	if a.TLS, err = s.config(server); err != nil {
		return Access{}, err
	}
	if a.Password, err = s.password(server, variable); err != nil {
		return Access{}, err
	}
	return a, nil
}

func (s Settings) config(server string) (*tls.Config, error) {
	if !s.UsesTLS() {
		return nil, nil //nolint:nilnil // no TLS
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: s.TLSName}
	if s.TLSCA != "" {
		text, err := os.ReadFile(s.TLSCA)
		if err != nil {
			return nil, fmt.Errorf("--%s-tls-ca %w: %w", server, ErrSettings, err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("--%s-tls-ca %s %w: there is no certificate in it; want PEM", server, s.TLSCA, ErrSettings)
		}
	}
	if (s.TLSCert == "") != (s.TLSKey == "") {
		return nil, fmt.Errorf("--%s-tls-cert and --%s-tls-key: one without the other %w", server, server, ErrSettings)
	}
	if s.TLSCert != "" {
		own, err := tls.LoadX509KeyPair(s.TLSCert, s.TLSKey)
		if err != nil {
			return nil, fmt.Errorf("--%s-tls-cert and --%s-tls-key %w: %w", server, server, ErrSettings, err)
		}
		config.Certificates = []tls.Certificate{own}
	}
	return config, nil
}

// password takes the file's, without the line's end, else the environment's.
func (s Settings) password(server, variable string) (Secret, error) {
	if s.PasswordFile == "" {
		return NewSecret(os.Getenv(variable)), nil
	}
	text, err := os.ReadFile(s.PasswordFile)
	if err != nil {
		return Secret{}, fmt.Errorf("--%s-password-file %w: %w", server, ErrSettings, err)
	}
	value := strings.TrimRight(string(text), "\r\n")
	if value == "" {
		return Secret{}, fmt.Errorf("--%s-password-file %s %w: it is empty", server, s.PasswordFile, ErrSettings)
	}
	return NewSecret(value), nil
}
