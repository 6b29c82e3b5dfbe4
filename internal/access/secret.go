package access

import (
	"fmt"
	"log/slog"
)

// Secret is a password. However it is printed, logged or encoded, it shows that there is one and not what it is; only
// Reveal tells.
type Secret struct{ value string }

// NewSecret makes a secret of a value.
func NewSecret(value string) Secret { return Secret{value} }

// Reveal is the secret itself, for the client that has to send it.
func (s Secret) Reveal() string { return s.value }

// Empty says whether there is none.
func (s Secret) Empty() bool { return s.value == "" }

// String implements fmt.Stringer.
func (s Secret) String() string {
	if s.Empty() {
		return ""
	}
	return "(secret)"
}

// Format implements fmt.Formatter: every verb prints what String does, %#v and %x as well.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText implements encoding.TextMarshaler, and with it JSON and YAML.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
