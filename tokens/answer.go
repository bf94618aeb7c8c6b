package tokens

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const (
	// maxLife is the longest expires_in that is believed. A year is absurd for an
	// access token and a sign of another unit.
	maxLife = 365 * 24 * time.Hour
	// minLife is the shortest: below it a token ends while it is being saved, and
	// refreshing in time would hammer the token endpoint.
	minLife = time.Second
	// assumedLife stands for an expires_in that is missing or absurd. A page that
	// Pleo withdrew said 15 minutes.
	assumedLife = 900 * time.Second
	// maxRetryAfter bounds what Retry-After may ask of us.
	maxRetryAfter = time.Hour
)

// answer is what is kept of an HTTP answer.
type answer struct {
	status  int
	header  http.Header
	members map[string]json.RawMessage // of the body; nil if fault
	fault   error                      // why there are no members
	issued  time.Time
	secrets []Secret // of the request
}

// classify returns the class of an answer that brought no token. It is the one
// place where answers are judged, by status and the code of RFC 6749 5.2, never
// by a code alone: Pleo documents none (design, table of failures).
func classify(status int, code string) Class {
	switch {
	case status/100 != 4,
		status == http.StatusRequestTimeout, status == http.StatusTooEarly, status == http.StatusTooManyRequests:
		return InDoubt
	case code == "invalid_client", code == "unauthorized_client", status == http.StatusUnauthorized && code == "":
		return ClientRefused
	}
	return Refused
}

// failure returns the error that a is. The cause is shown for a 2xx only: any
// other status speaks for itself.
func (a *answer) failure(cause error) *EndpointError {
	code := a.text("error")
	e := &EndpointError{
		Class: classify(a.status, code), Status: a.status,
		Code: showable(code, a.secrets), RetryAfter: retryAfter(a.header, time.Now()),
	}
	if a.status/100 == 2 {
		e.Cause = cause
	}
	return e
}

// success returns nil for a 2xx with an object and without an error member:
// any 2xx, for a pair must not be lost for an unusual one.
func (a *answer) success() error {
	switch {
	case a.status/100 != 2 || a.fault != nil:
		return a.failure(a.fault)
	case a.has("error"):
		return a.failure(errors.New("body holds an error"))
	}
	return nil
}

// token returns the token that a brings.
func (a *answer) token(log *slog.Logger) (Token, error) {
	if err := a.success(); err != nil {
		return Token{}, err
	}
	access, err := a.secret("access_token")
	if err == nil && access.IsZero() {
		err = errors.New("access_token is missing")
	}
	if err != nil {
		return Token{}, a.failure(err)
	}
	refresh, err := a.secret("refresh_token")
	if err != nil {
		return Token{}, a.failure(err)
	}
	if refresh.IsZero() {
		log.Warn("token answer without refresh token")
	}
	if kind := a.text("token_type"); kind != "" && !strings.EqualFold(kind, "bearer") {
		log.Warn("token answer of a type other than bearer")
	}
	life, ok := parseLife(a.members["expires_in"])
	if !ok {
		log.Warn("token answer without believable expires_in", slog.Duration("expires_in", life))
	}
	return NewToken(Pair{
		Access: access, Refresh: refresh, Scope: a.text("scope"),
		Issued: a.issued, End: a.issued.Round(0).Add(life),
	}), nil
}

// active returns what an introspection says.
func (a *answer) active() (bool, error) {
	if err := a.success(); err != nil {
		return false, err
	}
	var active *bool
	if json.Unmarshal(a.members["active"], &active) != nil || active == nil {
		return false, a.failure(errors.New("active is missing"))
	}
	return *active, nil
}

// has reports whether the member is there and says something: not null, not "".
func (a *answer) has(name string) bool {
	m := a.members[name]
	return len(m) > 0 && string(m) != "null" && string(m) != `""`
}

// text returns the member if it is a string, else "".
func (a *answer) text(name string) string {
	var s string
	if json.Unmarshal(a.members[name], &s) != nil {
		return ""
	}
	return s
}

// secret returns the member as it stands, which is empty if it is missing, null
// or "". Only what no HTTP field can carry is refused, and the mark that the
// JSON decoder leaves where it had to change bytes: tokens are opaque, and what
// was changed is not the token.
func (a *answer) secret(name string) (Secret, error) {
	if !a.has(name) {
		return Secret{}, nil
	}
	s := a.text(name)
	if s == "" || strings.ContainsAny(s, "\r\n\x00\uFFFD") {
		return Secret{}, errors.New(name + " cannot be read")
	}
	return NewSecret(s), nil
}

// parseLife reads expires_in, a number or a number in a string, in seconds; ok
// is false when the assumed life had to stand in.
func parseLife(member json.RawMessage) (life time.Duration, ok bool) {
	text := []byte(member)
	var quoted string
	if json.Unmarshal(member, &quoted) == nil {
		text = []byte(strings.TrimSpace(quoted))
	}
	var seconds float64
	if json.Unmarshal(text, &seconds) != nil || seconds < minLife.Seconds() || seconds > maxLife.Seconds() {
		return assumedLife, false
	}
	return time.Duration(seconds * float64(time.Second)), true
}

// plausibleCode is what an error code looks like. Anything else that a server
// puts there may be an echo of what we sent.
var plausibleCode = regexp.MustCompile(`^[a-z_]{1,40}$`)

// showable returns code if it may be shown, else "".
func showable(code string, secrets []Secret) string {
	if !plausibleCode.MatchString(code) {
		return ""
	}
	for _, s := range secrets {
		if !s.IsZero() && (strings.Contains(s.Reveal(), code) || strings.Contains(code, s.Reveal())) {
			return ""
		}
	}
	return code
}

// retryAfter reads Retry-After (RFC 9110 10.2.3). A date is held against the
// answer's own Date, so that the two clocks need not agree.
func retryAfter(h http.Header, now time.Time) time.Duration {
	value := strings.TrimSpace(h.Get("Retry-After"))
	if value == "" {
		return 0
	}
	if strings.Trim(value, "0123456789") == "" {
		seconds, err := strconv.Atoi(value)
		if err != nil || seconds > int(maxRetryAfter.Seconds()) {
			return maxRetryAfter
		}
		return time.Duration(seconds) * time.Second
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	return min(max(at.Sub(now), 0), maxRetryAfter)
}
