package tokens

import (
	mathrand "math/rand/v2"
	"time"
)

// tick is the keeper of one connection: a timer calls it whenever the view may
// have to change or a refresh is due, and a call that finds the lead begun.
func (s *Source) tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	now := time.Now()
	if s.flight == nil && !now.Before(s.retryAt) {
		if reason, replace := s.due(now); reason != "" {
			s.start(reason, replace).wanted = reason != reasonResolve && reason != reasonRepair
		}
	}
	s.update(now)
}

// due returns why a flight should start without a caller's asking, "" if none
// should. Callers hold mu.
func (s *Source) due(now time.Time) (reason string, replace Token) {
	rec := s.memory
	switch {
	case s.held != nil:
		return reasonSpool, Token{}
	case s.behind:
		return reasonRepair, Token{}
	case !rec.Living() || s.final(rec) != nil:
		return "", Token{}
	case doubtful(rec) && s.settled != markOf(rec):
		return reasonResolve, Token{}
	case doubtful(rec) && s.serves(rec.Token, now):
		return "", Token{} // known to be active; not presented while the old access token serves
	case s.used.Load() && s.ahead(now):
		return reasonExpiry, rec.Token
	case !now.Round(0).Before(s.keepAt):
		return reasonKeepAlive, rec.Token
	}
	return "", Token{}
}

// ahead reports whether the token in memory is to be refreshed ahead of its end,
// if the connection is in use. Callers hold mu.
func (s *Source) ahead(now time.Time) bool {
	return !doubtful(s.memory) && s.final(s.memory) == nil &&
		!s.memory.Token.Access().IsZero() && !now.Round(0).Before(s.leadAt)
}

// schedule sets when t is refreshed ahead of its end and kept alive, each a
// little early at random, so that a fleet and its connections spread. Callers
// hold mu.
func (s *Source) schedule(t Token, now time.Time) {
	life := t.End().Sub(t.Issued())
	lead := min(s.opts.Timing.Lead, life/3) // a short life must not be spent refreshing
	s.leadAt = t.End().Add(-early(lead))
	issued := t.Issued()
	if issued.IsZero() {
		issued = now
	}
	s.keepAt = issued.Add(early(s.opts.Timing.KeepAlive)).Round(0)
	if now = now.Round(0); s.keepAt.Before(now) { // overdue, as others may be after a long stop
		s.keepAt = now.Add(mathrand.N(min(s.opts.Timing.KeepAlive/10, time.Hour)))
	}
}

// arm sets the timer to the next moment at which tick has something to do.
// Callers hold mu.
func (s *Source) arm(now time.Time) {
	if s.closed {
		return
	}
	next := time.Duration(-1)
	at := func(t time.Time) {
		if d := t.Sub(now); next < 0 || d < next {
			next = max(0, d)
		}
	}
	wall := now.Round(0)
	if v := s.view.Load(); !v.token.IsZero() {
		at(now.Add(wallCheck))
		at(now.Add(v.token.End().Sub(wall)))
		if !v.open {
			at(s.gateEnd)
		}
		if lead := s.leadAt.Sub(wall); lead > 0 {
			at(now.Add(lead))
		}
	}
	if s.flight == nil {
		if reason, _ := s.due(now); reason != "" {
			at(s.retryAt)
		}
		if keep := s.keepAt.Sub(wall); keep > 0 && s.memory.Living() {
			at(now.Add(keep))
		}
	}
	if next >= 0 {
		s.timer.Reset(next)
	} else {
		s.timer.Stop()
	}
}
