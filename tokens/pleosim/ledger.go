package pleosim

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// A Kind is a class of violation.
type Kind string

// The violations: things a careful client never does, whatever goes wrong.
const (
	Reuse      Kind = "reuse"             // a spent refresh token (or code) presented again
	DeadAgain  Kind = "dead-again"        // presented again after its death was told
	Concurrent Kind = "concurrent"        // two refreshes of one grant at once
	WrongHost  Kind = "wrong-host"        // a credential at a host it is not for
	Exposed    Kind = "exposed"           // a token in a query or a form where none belongs
	Malformed  Kind = "malformed"         // a request that the standards or Pleo's pages forbid
	Redirected Kind = "redirect-followed" // a redirect of the token endpoint was followed
)

// A Violation is one broken rule. Text holds no secret.
type Violation struct {
	At      time.Time `json:"at"`
	Kind    Kind      `json:"kind"`
	Text    string    `json:"text"`
	Allowed bool      `json:"allowed,omitempty"` // by Allow or Expect
}

// report is the Sim's voice: the log and the violations. Its lock comes after
// Sim.mu, and TB and Log are called under it, so Log must not call the Sim.
type report struct {
	mu         sync.Mutex
	t          TB
	log        func(string)
	closed     bool
	allowed    map[Kind]bool
	expected   map[Kind]bool
	violations []Violation
}

func newReport(t TB, log func(string)) *report {
	if log == nil && t != nil {
		log = func(line string) { t.Logf("pleosim: %s", line) }
	}
	return &report{t: t, log: log, allowed: map[Kind]bool{}, expected: map[Kind]bool{}}
}

func (r *report) logf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.log != nil && !r.closed {
		r.log(fmt.Sprintf(format, args...))
	}
}

func (s *Sim) violate(kind Kind, format string, args ...any) {
	r := s.report
	r.mu.Lock()
	defer r.mu.Unlock()
	v := Violation{At: time.Now(), Kind: kind, Text: fmt.Sprintf(format, args...), Allowed: r.allowed[kind]}
	r.violations = append(r.violations, v)
	switch {
	case r.closed: // the test is over and must not be spoken to
	case r.t != nil && !v.Allowed:
		r.t.Errorf("pleosim: violation %s: %s", v.Kind, v.Text)
	case r.log != nil:
		r.log(fmt.Sprintf("VIOLATION %s (allowed: %t): %s", v.Kind, v.Allowed, v.Text))
	}
}

func (r *report) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for kind := range r.expected {
		seen := slices.ContainsFunc(r.violations, func(v Violation) bool { return v.Kind == kind })
		if !seen && r.t != nil && !r.closed {
			r.t.Errorf("pleosim: expected a violation %s, saw none", kind)
		}
	}
	r.closed = true
}

// Allow lets violations of these kinds happen from here on: they are recorded
// and do not fail the test.
func (s *Sim) Allow(kinds ...Kind) {
	s.report.mu.Lock()
	defer s.report.mu.Unlock()
	for _, kind := range kinds {
		s.report.allowed[kind] = true
	}
}

// ExpectReuse allows reuse, and fails the test if none has happened at Close.
func (s *Sim) ExpectReuse() {
	s.Allow(Reuse)
	s.report.mu.Lock()
	defer s.report.mu.Unlock()
	s.report.expected[Reuse] = true
}

// Violations are those that were not allowed.
func (s *Sim) Violations() []Violation {
	s.report.mu.Lock()
	defer s.report.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.report.violations), func(v Violation) bool { return v.Allowed })
}

// A Ledger is what happened so far. It holds fingerprints, never tokens.
type Ledger struct {
	Seed       uint64      `json:"seed"`
	Grants     []GrantLine `json:"grants"`
	Violations []Violation `json:"violations"`
	Tally
}

// Tally counts what belongs to no grant.
type Tally struct {
	// APIServed are calls whose token was good, APIRefused those answered 401,
	// by cause: missing, malformed, unknown, expired, rotated, revoked, fault.
	APIServed  int            `json:"api_served"`
	APIRefused map[string]int `json:"api_refused"`
	// ClientRefused are requests to the authorization server with a wrong client.
	ClientRefused int `json:"client_refused"`
	// UnknownRefresh are refresh tokens presented that were never issued.
	UnknownRefresh int `json:"unknown_refresh"`
	Introspections int `json:"introspections"`
}

// A GrantLine is the ledger of one grant.
type GrantLine struct {
	ID             string        `json:"id"`
	Subject        string        `json:"subject"`
	Created        time.Time     `json:"created"`
	Revoked        string        `json:"revoked,omitempty"` // why
	RevokedAt      time.Time     `json:"revoked_at,omitzero"`
	Rotations      int           `json:"rotations"`
	Introspections int           `json:"introspections"`
	MaxConcurrent  int           `json:"max_concurrent"` // refreshes at once
	RefreshTokens  []RefreshLine `json:"refresh_tokens"`
}

// A RefreshLine is the ledger of one refresh token. Answer is what became of
// the answer that carried it: "answered", or "lost: " and how.
type RefreshLine struct {
	Ordinal     int            `json:"ordinal"`
	Fingerprint string         `json:"fingerprint"`
	Issued      time.Time      `json:"issued"`
	Answer      string         `json:"answer"`
	Presented   []Presentation `json:"presented,omitempty"`
}

// A Presentation is one time a refresh token reached the token endpoint in a
// complete request of an authenticated client.
type Presentation struct {
	At      time.Time `json:"at"`
	Outcome string    `json:"outcome"`
}

// Outcomes of a presentation.
const (
	OutcomeRunning = "running" // not decided yet
	OutcomeRotated = "rotated"
	OutcomeReuse   = "reuse, grant revoked"
	OutcomeAged    = "aged out, grant revoked"
	OutcomeRevoked = "refused, grant was revoked"
)

// Why a grant was revoked, beside what a test or a person asked for.
const (
	RevokedReuse     = "a spent refresh token was presented"
	RevokedCode      = "an authorization code was presented twice"
	RevokedAged      = "an aged out refresh token was presented"
	RevokedUninstall = "uninstalled"
)

// Ledger returns a copy of what happened so far.
func (s *Sim) Ledger() Ledger {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := Ledger{Seed: s.opt.Seed, Tally: s.tally, Grants: []GrantLine{}, Violations: []Violation{}}
	l.APIRefused = map[string]int{}
	for cause, n := range s.tally.APIRefused {
		l.APIRefused[cause] = n
	}
	s.report.mu.Lock()
	l.Violations = append(l.Violations, s.report.violations...)
	s.report.mu.Unlock()
	for _, g := range s.grants {
		line := GrantLine{
			ID: g.id, Subject: g.subject, Created: g.created, Revoked: g.revoked, RevokedAt: g.revokedAt,
			Rotations: g.rotations, Introspections: g.introspects, MaxConcurrent: g.maxInFlight,
		}
		for _, t := range g.issued {
			line.RefreshTokens = append(line.RefreshTokens, RefreshLine{
				Ordinal: t.ordinal, Fingerprint: t.fingerprint, Issued: t.issuedAt,
				Answer: t.answer, Presented: slices.Clone(t.presented),
			})
		}
		l.Grants = append(l.Grants, line)
	}
	return l
}

// Lost tells whether the answer with the newest pair of the grant never went
// out whole: then no client can hold it, and only a person can help. A pair
// that went out may still be lost by whoever received it.
func (g GrantLine) Lost() bool {
	return g.Revoked == "" && len(g.RefreshTokens) > 0 && g.RefreshTokens[len(g.RefreshTokens)-1].Answer != answered
}

// Clean is nil when the client did nothing wrong: no violation that was not
// allowed, no grant that a client's mistake revoked, no nonsense presented.
func (l Ledger) Clean() error {
	var errs []error
	for _, v := range l.Violations {
		if !v.Allowed {
			errs = append(errs, fmt.Errorf("violation %s: %s", v.Kind, v.Text))
		}
	}
	for _, g := range l.Grants {
		switch g.Revoked {
		case RevokedReuse, RevokedCode, RevokedAged:
			errs = append(errs, fmt.Errorf("grant %s was revoked: %s", g.ID, g.Revoked))
		}
	}
	if l.UnknownRefresh > 0 {
		errs = append(errs, fmt.Errorf("%d refresh tokens presented that were never issued", l.UnknownRefresh))
	}
	return errors.Join(errs...)
}

// Summary says the ledger in a few plain lines.
func (l Ledger) Summary() []string {
	lines := []string{fmt.Sprintf("API calls served %d, refused %v; introspections %d; client refused %d; unknown refresh tokens %d",
		l.APIServed, l.APIRefused, l.Introspections, l.ClientRefused, l.UnknownRefresh)}
	for _, g := range l.Grants {
		lost := 0
		for _, t := range g.RefreshTokens {
			if t.Answer != answered {
				lost++
			}
		}
		line := fmt.Sprintf("grant %s: %d rotations, %d answers lost, at most %d refreshes at once",
			g.ID, g.Rotations, lost, g.MaxConcurrent)
		if g.Revoked != "" {
			line += ", revoked: " + g.Revoked
		}
		if g.Lost() {
			line += ", its newest pair is truly lost"
		}
		lines = append(lines, line)
	}
	for _, v := range l.Violations {
		lines = append(lines, fmt.Sprintf("violation %s (allowed: %t): %s", v.Kind, v.Allowed, v.Text))
	}
	return lines
}
