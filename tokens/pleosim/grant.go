package pleosim

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"
)

// A grant is what one person allowed once: a family of tokens, of which at most
// one access token and one refresh token are alive.
type grant struct {
	id, subject string
	created     time.Time
	access      *token
	refresh     *token
	issued      []*token // refresh tokens, oldest first
	revoked     string   // why; empty while alive
	revokedAt   time.Time
	inFlight    int
	maxInFlight int
	rotations   int
	introspects int
	job         time.Time // last update of its export job
}

// token is an access or a refresh token. Dead ones are remembered for ever, so
// that a late use can be told from nonsense.
type token struct {
	value, fingerprint string
	ordinal            int
	grant              *grant
	refresh            bool
	issuedAt, ends     time.Time
	deadAt             time.Time
	cause              string // why it died: rotated or revoked
	refused            bool   // its death was told to whoever presented it
	answer             string // what became of the answer that carried it
	presented          []Presentation
}

// Causes of a refused access token, as the ledger counts them.
const (
	causeMissing   = "missing"
	causeMalformed = "malformed"
	causeUnknown   = "unknown"
	causeExpired   = "expired"
	causeRotated   = "rotated"
	causeRevoked   = "revoked"
	causeFault     = "fault"
)

// diedOf says why the token is not good at the given time; empty means good.
func (t *token) diedOf(at time.Time) string {
	switch {
	case t.cause != "" && !at.Before(t.deadAt):
		return t.cause
	case !at.Before(t.ends):
		return causeExpired
	}
	return ""
}

func (t *token) die(cause string, at time.Time) {
	if t.cause == "" {
		t.cause, t.deadAt = cause, at
	}
}

// Grant makes a grant without a browser and returns its refresh token.
func (s *Sim) Grant() (refreshToken string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.newGrant("")
	g.refresh.answer = answered
	s.logf("grant %s made by hand, refresh token %s", g.id, g.refresh.fingerprint)
	return g.refresh.value
}

// Pair returns the live pair of a grant, which is named by its id or by any
// token it ever had. Both are empty once the grant is revoked or unknown.
func (s *Sim) Pair(ref string) (accessToken, refreshToken string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.find(ref) {
		if g.revoked == "" {
			return g.access.value, g.refresh.value
		}
	}
	return "", ""
}

// Expire ends the live access token of a grant at once; "" means of all grants.
func (s *Sim) Expire(ref string) {
	s.each(ref, func(g *grant, now time.Time) {
		g.access.ends = now
		s.logf("grant %s: access token %s expired on request", g.id, g.access.fingerprint)
	})
}

// Age ends the live refresh token of a grant, as if it had not been used for
// its whole life; "" means of all grants. Presenting it then revokes the grant.
func (s *Sim) Age(ref string) {
	s.each(ref, func(g *grant, now time.Time) {
		g.refresh.ends = now
		s.logf("grant %s: refresh token %s aged out on request", g.id, g.refresh.fingerprint)
	})
}

// Revoke ends a grant as a person at Pleo would; "" means all grants.
func (s *Sim) Revoke(ref string) {
	s.each(ref, func(g *grant, now time.Time) { s.revoke(g, "by request", now) })
}

func (s *Sim) each(ref string, do func(*grant, time.Time)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.find(ref) {
		if g.revoked == "" {
			do(g, time.Now())
		}
	}
}

// find returns the grants that ref names. The caller holds mu.
func (s *Sim) find(ref string) []*grant {
	if ref == "" {
		return s.grants
	}
	if t := s.tokens[ref]; t != nil {
		return []*grant{t.grant}
	}
	for _, g := range s.grants {
		if g.id == ref {
			return []*grant{g}
		}
	}
	return nil
}

// newGrant makes a grant and its first pair. The caller holds mu.
func (s *Sim) newGrant(subject string) *grant {
	if subject == "" {
		subject = "urn:pleo:company:" + s.dice.uuid()
	}
	g := &grant{id: fmt.Sprintf("g%d", len(s.grants)+1), subject: subject, created: time.Now()}
	s.grants = append(s.grants, g)
	s.issue(g, g.created)
	return g
}

// issue gives the grant a pair and kills the one before. The caller holds mu.
func (s *Sim) issue(g *grant, now time.Time) {
	if g.access != nil {
		g.access.die(causeRotated, now)
	}
	g.access = s.mint(g, now, s.opt.AccessLife)
	if g.refresh != nil {
		g.rotations++
		if s.opt.OmitRefreshToken {
			return
		}
		g.refresh.die(causeRotated, now)
	}
	g.refresh = s.mint(g, now, s.opt.RefreshLife)
	g.issued = append(g.issued, g.refresh)
	g.refresh.refresh, g.refresh.ordinal = true, len(g.issued)
}

func (s *Sim) mint(g *grant, now time.Time, life time.Duration) *token {
	length := s.opt.TokenLength
	switch {
	case length == 0 && s.opt.Hostile:
		length = defaultTokenLength + s.dice.below(3000)
	case length == 0:
		length = defaultTokenLength
	}
	t := &token{grant: g, issuedAt: now, ends: now.Add(life), value: s.dice.word(length, s.opt.TokenAlphabet)}
	t.fingerprint = fingerprint(t.value)
	s.tokens[t.value] = t
	return t
}

// revoke ends a grant and its living tokens. The caller holds mu.
func (s *Sim) revoke(g *grant, why string, now time.Time) {
	if g.revoked != "" {
		return
	}
	g.revoked, g.revokedAt = why, now
	g.access.die(causeRevoked, now)
	g.refresh.die(causeRevoked, now)
	s.logf("grant %s revoked: %s", g.id, why)
}

// fingerprint is how tokens are named outside: the first 8 hex digits of the
// SHA-256.
func fingerprint(value string) string {
	sum := sha256.Sum256([]byte(value))
	return hex.EncodeToString(sum[:4])
}
