package config

import (
	"fmt"
	"io"
	"log/slog"
)

// redacted stands for a secret wherever one would be printed.
const redacted = "[redacted]"

// Secret is text that does not print: every verb of package fmt, slog, JSON,
// YAML and every other text encoding show [redacted], or nothing when it is
// empty. The zero value is empty.
//
// It is a struct around a pointer because package fmt calls no methods on an
// unexported field of somebody's struct: it prints what is inside, and that is
// then an address.
type Secret struct{ text *string }

// NewSecret returns text as a Secret.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{&text}
}

// Reveal returns the text. Pass it on to what needs it, and never into an error
// or a log.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// IsZero reports whether there is no text.
func (s Secret) IsZero() bool { return s.text == nil }

// String returns [redacted], or nothing when the secret is empty.
func (s Secret) String() string {
	if s.IsZero() {
		return ""
	}
	return redacted
}

// GoString is String, for %#v.
func (s Secret) GoString() string { return s.String() }

// Format writes String, whatever the verb and its flags.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// LogValue is String, for slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText is String, for YAML, XML and keys of maps.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalJSON is String, in quotes.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + s.String() + `"`), nil }
