package tokens

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"
)

// Token is a pair as the authorization server issued it: an access token, the
// refresh token that replaces it, and when the access token ends. It is an
// immutable value, safe for concurrent use, and prints as its access token's
// fingerprint under every verb. The zero Token holds nothing.
type Token struct{ p *pair }

type pair struct {
	access  Secret
	refresh Secret
	issued  time.Time
	end     time.Time
	scope   string
	// authorization is the field value of every proxied request, made once so
	// that attaching it allocates nothing (2 ns instead of 60, measured).
	authorization []string
}

// Pair is what a Token is made of.
type Pair struct {
	Access  Secret    // empty when only a refresh token is known (seed, import)
	Refresh Secret    // never empty in a living record
	Issued  time.Time // wall time just before the request that obtained it was sent
	End     time.Time // wall time after which Access is not sent; Issued + expires_in
	Scope   string    // as granted; "" when the answer named none
}

// NewToken returns the token made of p. Times lose their monotonic reading: a
// token is compared across processes and across suspends.
func NewToken(p Pair) Token {
	t := &pair{
		access: p.Access, refresh: p.Refresh, scope: p.Scope,
		issued: p.Issued.Round(0), end: p.End.Round(0),
	}
	if !p.Access.IsZero() {
		t.authorization = []string{"Bearer " + p.Access.Reveal()}
	}
	return Token{t}
}

// IsZero reports whether t holds no token at all.
func (t Token) IsZero() bool { return t.p == nil }

// Access returns the access token, empty when there is none.
func (t Token) Access() Secret {
	if t.p == nil {
		return Secret{}
	}
	return t.p.access
}

// Refresh returns the refresh token, empty when there is none.
func (t Token) Refresh() Secret {
	if t.p == nil {
		return Secret{}
	}
	return t.p.refresh
}

// Issued returns when the request that obtained the token was about to be sent.
func (t Token) Issued() time.Time {
	if t.p == nil {
		return time.Time{}
	}
	return t.p.issued
}

// End returns when the access token ends, counted from before the request that
// obtained it was sent, so that no delay of the network makes it too late.
func (t Token) End() time.Time {
	if t.p == nil {
		return time.Time{}
	}
	return t.p.end
}

// Scope returns the granted scope, space-separated (RFC 6749 3.3).
func (t Token) Scope() string {
	if t.p == nil {
		return ""
	}
	return t.p.scope
}

// Serves reports whether the access token may be sent at now.
func (t Token) Serves(now time.Time) bool {
	return !t.Access().IsZero() && now.Round(0).Before(t.p.end)
}

// withRefresh returns t with another refresh token.
func (t Token) withRefresh(refresh Secret) Token {
	p := *t.p
	p.refresh = refresh
	return Token{&p}
}

// SameAccess reports whether both hold the same access token. Versions cannot
// tell: a claim raises the version and changes no token.
func (t Token) SameAccess(u Token) bool { return t.p == u.p || t.Access().Equal(u.Access()) }

// Attach sets the Authorization field of h to this token's bearer (RFC 6750
// 2.1), replacing whatever was there. The value is shared by all requests and
// must not be changed in place. A token without an access token removes it.
func (t Token) Attach(h http.Header) {
	if t.p == nil || t.p.authorization == nil {
		delete(h, "Authorization")
		return
	}
	h["Authorization"] = t.p.authorization
}

// String returns the fingerprint of the access token.
func (t Token) String() string { return ShortFingerprint(t.Access()) }

// GoString is String: %#v shows no more than %v.
func (t Token) GoString() string { return t.String() }

// Format writes String under every verb.
func (t Token) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, t.String()) }

// MarshalText returns String: the only form in which a token is ever marshalled
// besides the sealed one.
func (t Token) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// LogValue is String.
func (t Token) LogValue() slog.Value { return slog.StringValue(t.String()) }

// Fingerprint names a refresh token or a client without revealing it: the first
// 16 bytes of its SHA-256 in hex. Records are ordered by it, so it must not
// collide; 8 hex digits would (1 % among 9,300 tokens).
type Fingerprint string

// FingerprintOf returns the fingerprint of s, "" for the zero Secret.
func FingerprintOf(s Secret) Fingerprint { return Fingerprint(digest(s, 16)) }

// Short is the first 8 hex digits: enough for a person who reads a log.
func (f Fingerprint) Short() string { return string(f[:min(8, len(f))]) }

// ShortFingerprint returns the first 8 hex digits of the SHA-256 of s, "" for
// the zero Secret: the form in which logs name a token.
func ShortFingerprint(s Secret) string { return digest(s, 4) }

func digest(s Secret, n int) string {
	if s.IsZero() {
		return ""
	}
	sum := sha256.Sum256([]byte(s.Reveal()))
	return hex.EncodeToString(sum[:n])
}
