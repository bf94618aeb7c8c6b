package tokens

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Source gives the tokens of one connection. It is safe for concurrent use; get
// one from Connections.Open.
//
// Refresh, the end of a token and the background keeper all go through one
// flight (fly): there is no other door to a refresh.
type Source struct {
	opts *Options
	name string

	// view is all that a call with a good token needs: one atomic load, no lock,
	// no clock (a timer swaps the view when the token ends).
	view atomic.Pointer[view]
	// used tells whether a call was served since the last refresh; only a
	// connection in use is refreshed ahead of its token's end.
	used atomic.Bool

	flights sync.WaitGroup // Close waits for it

	mu       sync.Mutex // guards what follows; never held across I/O
	memory   Record     // the newest record seen, whole
	behind   bool       // a look at the store showed less than memory holds
	held     *Record    // a pair that was answered and is not saved yet
	rejected Token      // its access token was answered 401 and serves no more
	asked    Token      // was rejected while young, and its grant asked about
	sight    sight      // of the record in memory
	gateEnd  time.Time  // when a claim stops holding back calls
	settled  mark       // the doubtful record whose refresh token was found active
	leadAt   time.Time  // when the keeper refreshes the token in memory
	keepAt   time.Time  // when an idle connection is refreshed
	flight   *flight
	failures int       // flights that failed in a row
	retryAt  time.Time // no flight before it
	lastErr  error     // why the last flight failed; nil after one that did not
	changed  chan struct{}
	timer    *time.Timer
	closed   bool
}

func newSource(opts *Options, name string) *Source {
	s := &Source{opts: opts, name: name, changed: make(chan struct{})}
	s.view.Store(&view{})
	s.timer = time.AfterFunc(time.Hour, s.tick)
	s.timer.Stop()
	return s
}

// Token returns an access token that is good as far as this process knows: at
// once when it has one, else after waiting for a refresh, up to MaxWait. While a
// refresh of the connection runs anywhere in the fleet it waits too, but rather
// returns the old token than fail.
//
// Errors: ErrLoginRequired, ErrClientRejected, ErrUnknownConnection,
// ErrTokenUnavailable, ErrStoreUnavailable, or the cause of ctx. Ending ctx ends
// the waiting and no refresh.
func (s *Source) Token(ctx context.Context) (Token, error) {
	v := s.view.Load()
	if !v.open {
		return s.wait(ctx, Token{})
	}
	if !s.used.Load() {
		s.used.Store(true)
	}
	if v.due {
		s.tick()
	}
	return v.token, nil
}

// Refresh returns a token whose access token is not that of rejected, which the
// upstream answered with 401, if there is or can be one. It returns rejected
// itself when no refresh can cure the 401: the token is seconds old, the store
// has no other, and the grant lives. Errors and ctx are those of Token.
//
// N calls rejected on one token cause one refresh, in one process and in the
// fleet: the first notes the token, the others find it noted.
func (s *Source) Refresh(ctx context.Context, rejected Token) (Token, error) {
	if s.braked(rejected) {
		// The event of a rotation elsewhere may be late: one look.
		if err := s.look(ctx); err != nil {
			if ctx.Err() != nil {
				return Token{}, context.Cause(ctx) // the caller left; no fault of the store
			}
			return Token{}, unavailable(err, storeRetry)
		}
		if s.braked(rejected) && s.vouched(ctx, rejected) {
			s.opts.Metrics.refreshes[resultBraked].Inc()
			return rejected, nil
		}
	}
	s.reject(rejected)
	return s.wait(ctx, rejected)
}

// braked reports whether a refresh for rejected would spend a pair for nothing:
// it is seconds old. Not while a claim stands or a flight runs: the 401 may come
// from the rotation under way, and its answer is worth waiting for. A pair that
// is held has been answered already.
func (s *Source) braked(rejected Token) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	age := now.Sub(rejected.Issued()).Abs() // another pod's clock may be ahead of ours
	rotating := s.held == nil && (s.flight != nil && !s.flight.rotated || doubtful(s.memory))
	return age < brake && !rotating && s.current().SameAccess(rejected) && s.serves(rejected, now)
}

// vouched reports whether the grant of a token seconds old lives, as far as one
// introspection, made once for each such token, can tell: a revoked one must not
// pass for a fault of the upstream's until it is old enough.
func (s *Source) vouched(ctx context.Context, rejected Token) bool {
	s.mu.Lock()
	asked := s.asked.SameAccess(rejected)
	s.asked = rejected
	s.mu.Unlock()
	if asked || !s.opts.Endpoint.Introspects() {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, s.opts.Timing.MaxWait)
	defer cancel()
	active, err := s.opts.Endpoint.Introspect(ctx, rejected.Refresh())
	return active || err != nil
}

// reject notes that the access token of t serves no more.
func (s *Source) reject(t Token) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current().SameAccess(t) && !s.rejected.SameAccess(t) {
		s.rejected = t
		s.update(time.Now())
	}
}

// wait returns a token that serves and is not refused, starting a flight where
// none runs.
func (s *Source) wait(ctx context.Context, refused Token) (Token, error) {
	start := time.Now()
	defer func() { s.opts.Metrics.gateWait.Observe(time.Since(start).Seconds()) }()
	patience := time.NewTimer(s.opts.Timing.MaxWait)
	defer patience.Stop()
	s.used.Store(true)
	var joined *flight
	for {
		token, changed, err := s.get(refused, &joined)
		if err != nil || changed == nil {
			return token, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Token{}, context.Cause(ctx)
		case <-patience.C:
			return s.giveUp(refused)
		}
	}
}

// get returns a token, an error, or a channel that closes when it is worth
// asking again. joined is the flight that counts this caller among its waiters.
func (s *Source) get(refused Token, joined **flight) (Token, <-chan struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.view.Load()
	switch now := time.Now(); {
	case v.open && !refusedBy(refused, v.token):
		return v.token, nil, nil
	case *joined != nil && (*joined).rotated && s.flight == nil && s.serves(s.current(), now):
		return s.current(), nil, nil // refreshed, and the same access token again: no cure
	case v.err != nil:
		return Token{}, nil, v.err
	case s.flight == nil && now.Before(s.retryAt):
		return Token{}, nil, s.failed(now)
	case s.flight == nil && s.closed:
		return Token{}, nil, &laterError{ErrTokenUnavailable, errClosed, time.Second}
	case s.flight == nil:
		s.start(reasonFor(refused), Token{})
	}
	if *joined != s.flight {
		*joined = s.flight
		s.flight.waiters++
	}
	if !s.flight.wanted {
		s.flight.wanted = true
		s.wake() // it may be waiting for its turn in the background
	}
	return Token{}, s.changed, nil
}

// refusedBy reports whether t is the token that the upstream refused.
func refusedBy(refused, t Token) bool { return !refused.IsZero() && t.SameAccess(refused) }

// giveUp is what a caller gets whose patience is over: the old token where only
// a gate was in the way, else an error.
func (s *Source) giveUp(refused Token) (Token, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v := s.view.Load(); !v.token.IsZero() && !refusedBy(refused, v.token) {
		return v.token, nil
	}
	cause := s.lastErr
	if s.flight != nil && s.flight.trouble != nil {
		cause = s.flight.trouble
	}
	return Token{}, unavailable(cause, s.opts.Timing.MaxWait)
}

// failed is the error of calls that come between two flights. Callers hold mu.
func (s *Source) failed(now time.Time) error {
	return unavailable(s.lastErr, s.retryAt.Sub(now))
}
