package tokens

import (
	"fmt"
	"io"
	"log/slog"
)

const redacted = "[redacted]"

// Secret is a string that does not print: every fmt verb, JSON, text
// marshalling and slog show [redacted], or nothing when it is empty. It holds a
// pointer, because fmt reads unexported fields of an enclosing struct without
// calling their methods (measured) and then shows only an address.
//
// The zero Secret is empty. A Secret is a value, safe for concurrent use.
type Secret struct{ s *string }

// NewSecret returns s as a Secret; an empty s gives the zero Secret.
func NewSecret(s string) Secret {
	if s == "" {
		return Secret{}
	}
	return Secret{&s}
}

// Reveal returns the text itself. Whoever calls it answers for where it goes.
func (s Secret) Reveal() string {
	if s.s == nil {
		return ""
	}
	return *s.s
}

// IsZero reports whether the secret is empty.
func (s Secret) IsZero() bool { return s.s == nil }

// Equal reports whether both hold the same text. It is not constant-time:
// it compares secrets of our own, never one that a caller can vary.
func (s Secret) Equal(t Secret) bool { return s.Reveal() == t.Reveal() }

// String returns [redacted], or "" for the zero Secret.
func (s Secret) String() string {
	if s.s == nil {
		return ""
	}
	return redacted
}

// GoString is String: %#v shows no more than %v.
func (s Secret) GoString() string { return s.String() }

// Format writes String under every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalText returns String, so that JSON, YAML and XML show no more.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue is String.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }
