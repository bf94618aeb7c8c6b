package tokens

import "time"

// view is what Token sees. err is set only where token is zero.
type view struct {
	token Token // serves, or zero
	open  bool  // token serves and no claim holds calls back
	due   bool  // lead has begun and nobody had called before: whoever comes starts the refresh
	err   error // why there is no token and will be none without a person
}

// mark names one record in one run.
type mark struct {
	version      uint64
	attempt, run string
}

func markOf(r Record) mark { return mark{r.Version, r.Attempt, r.Seen.Run} }

// sight is when this process first saw a record, on its monotonic clock. Quiet
// is counted from it: no pod judges another's wall clock.
type sight struct {
	of mark
	at time.Time
}

// current is the newest pair this process knows. Callers hold mu.
func (s *Source) current() Token {
	if s.held != nil {
		return s.held.Token
	}
	return s.memory.Token
}

// remembered returns the newest record this process has seen.
func (s *Source) remembered() Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.memory
}

// remember takes a record read from or written to the store into memory, unless
// memory is newer, and reports whether it took it. Every record goes through
// here before anything is done with it (rule "Read, then remember").
func (s *Source) remember(rec Record) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if Newer(s.memory, rec) {
		s.behind = true
		s.update(now)
		return false
	}
	if !s.behind && markOf(rec) == markOf(s.memory) {
		return true
	}
	s.behind = false
	if s.sight.of != markOf(rec) {
		s.sight = sight{markOf(rec), now}
	}
	if rec.State == StateClaimed && rec.Claim != s.memory.Claim {
		s.gateEnd = now.Add(s.opts.Timing.gate())
	}
	otherPair := rec.Current != s.memory.Current || !rec.Token.SameAccess(s.memory.Token)
	s.memory = rec
	if otherPair {
		// What failed before concerned another pair: a login heals at once.
		s.failures, s.retryAt, s.lastErr = 0, time.Time{}, nil
		s.used.Store(false)
		s.schedule(rec.Token, now)
	}
	s.update(now)
	return true
}

// update makes the view anew, wakes who waits, and sets the timer. Callers hold mu.
func (s *Source) update(now time.Time) {
	v := &view{}
	switch token := s.current(); {
	case s.serves(token, now):
		gated := s.held == nil && s.memory.State == StateClaimed && now.Before(s.gateEnd)
		v.token, v.open = token, !gated
		v.due = v.open && s.flight == nil && s.held == nil && s.ahead(now) && !now.Before(s.retryAt)
	default:
		v.err = s.final(s.memory)
	}
	s.view.Store(v)
	s.wake()
	if f := s.flight; f != nil && f.leave != nil && s.satisfied(f, now) {
		f.leave() // what it waits in line for has come by itself
	}
	s.arm(now)
}

// wake tells all who wait that it is worth looking again. Callers hold mu.
func (s *Source) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// serves reports whether t may be sent: not ended and not rejected. Callers
// hold mu.
func (s *Source) serves(t Token, now time.Time) bool {
	return t.Serves(now) && !refusedBy(s.rejected, t)
}

// final returns the error that only a person can end, nil if rec allows a token.
func (s *Source) final(rec Record) error {
	switch rec.State {
	case StateOK, StateClaimed:
		return nil
	case StateClientRejected:
		if rec.Client == s.opts.Endpoint.Client() {
			return withReason(ErrClientRejected, rec.Reason)
		}
		return nil
	case StateLoginRequired:
		return withReason(ErrLoginRequired, rec.Reason)
	}
	// No record, or a tombstone.
	switch absent := rec.State == "" && rec.Seen.Run != ""; {
	case absent && !s.seed().IsZero():
		return nil
	case rec.State == "" && !absent: // never looked
		return nil
	case s.name == s.opts.Default:
		return ErrLoginRequired
	}
	return ErrUnknownConnection
}

// seed is the refresh token that the configuration gives this connection.
func (s *Source) seed() Secret {
	if s.name != s.opts.Default {
		return Secret{}
	}
	return s.opts.Seed
}
