package tokens

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"
)

// outcome says how the protocol goes on after one of its parts.
type outcome int

const (
	again  outcome = iota // back to rule 1: look at the store
	onward                // to the next rule
	landed                // the flight is over
)

// step is one round of the protocol: a look at the store (rule 1), then whatever
// that look asks for. With an error, again means after a pause, and landed that
// the error is final.
func (s *Source) step(ctx, after context.Context, f *flight) (outcome, error) {
	if s.holding() {
		return again, s.saveHeld(after, f, Record{}) // from the spool; it may settle all that follows
	}
	rec, err := s.load(ctx)
	if err != nil {
		return again, err
	}
	if !s.remember(rec) {
		return again, s.repair(ctx, rec)
	}
	f.on = rec.Current
	if err := s.final(rec); err != nil { // rule 2
		return landed, err
	}
	switch {
	case !rec.Exists():
		return again, s.plant(ctx, f, rec)
	case doubtful(rec):
		if next, err := s.resolve(ctx, f, rec); next != onward || err != nil {
			return next, err
		}
	case s.enough(f, rec): // rule 3
		f.result = resultAdopted
		return landed, nil
	}
	return s.present(ctx, after, f, rec)
}

// enough reports whether f has what it wants in rec, a record beyond doubt.
func (s *Source) enough(f *flight, rec Record) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !f.wanted || s.good(rec, f, time.Now())
}

// present spends the refresh token of rec (rules 5 to 7): connect, claim, send
// once, and save what comes. ctx ends with the lock, and with it everything up
// to the sending; what was sent is seen through until after ends.
func (s *Source) present(ctx, after context.Context, f *flight, rec Record) (outcome, error) {
	connecting, cancel := context.WithTimeout(ctx, s.opts.Timing.Timeout)
	request, err := s.opts.Endpoint.Connect(connecting)
	cancel()
	if err != nil {
		return again, err
	}
	defer func() { _ = request.Close() }()

	window := openWindow(s.opts.Timing.SendWindow)
	// Not under ctx: a claim that lands unnoticed costs the fleet a quiet time. When
	// ctx ends meanwhile nothing is sent, and the claim is taken back.
	claim, err := s.claim(after, window, rec)
	if errors.Is(err, ErrConflict) {
		return again, nil
	}
	if err != nil {
		return again, err
	}
	f.tries++
	if err := s.send(ctx, window, request, claim); err != nil {
		if classOf(err) == Unsent {
			return again, errors.Join(err, s.release(after, rec, claim))
		}
		s.openGate()
		return again, err
	}
	token, err := s.answer(after, request)
	switch {
	case err == nil:
		return landed, s.rotate(after, f, claim, token)
	case classOf(err) == InDoubt:
		// The claim stands: whoever comes next waits quiet, then resolves.
		s.openGate()
		s.opts.Metrics.refreshes[resultLost].Inc()
		return again, err
	}
	return s.refused(ctx, claim, err)
}

// window is the time in which a refresh may be written (rule 2.0). It is over as
// soon as either clock says so: the monotonic one stops while a machine is
// suspended, the wall clock may be set back.
type window struct {
	opened time.Time
	length time.Duration
}

func openWindow(length time.Duration) window { return window{time.Now(), length} }

// left returns how much of the window remains at now, none when it is over.
func (w window) left(now time.Time) time.Duration {
	return windowLeft(w.length, now.Sub(w.opened), now.Round(0).Sub(w.opened.Round(0)))
}

func windowLeft(length, monotonic, wall time.Duration) time.Duration {
	return max(0, length-max(monotonic, wall))
}

// bound returns ctx ended when the window is over.
func (w window) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, w.left(time.Now()), errWindowOver)
}

var errWindowOver = errors.New("tokens: the time to send was over")

// claim marks rec as being spent by this process, by compare-and-swap on what
// was loaded (rule 5). From a nil error on the refresh token counts as spent for
// the whole fleet. Any other outcome allows no sending, even if the write landed.
func (s *Source) claim(ctx context.Context, w window, rec Record) (Record, error) {
	ctx, cancel := w.bound(ctx)
	defer cancel()
	claim := rec
	claim.State, claim.Claim = StateClaimed, Claim{ID: newID(), Pod: s.opts.Pod}
	claim.Doubt, claim.Client, claim.Reason = false, "", ""
	if doubtful(rec) {
		claim.Tries++
	}
	claim = s.follow(claim, rec)
	for n := 0; ; n++ {
		err := s.save(ctx, claim)
		if err == nil {
			return s.written(claim), nil
		}
		if errors.Is(err, ErrConflict) {
			return Record{}, err
		}
		// Unknown: the same attempt again tells, but only while sending is allowed.
		if pause(ctx, backoff(n)) != nil {
			return Record{}, storeError("save the claim", err)
		}
	}
}

// send writes the refresh request after a last look at window and lease.
func (s *Source) send(ctx context.Context, w window, request *TokenRequest, claim Record) error {
	ctx, cancel := w.bound(ctx)
	defer cancel()
	if w.left(time.Now()) == 0 {
		return &EndpointError{Class: Unsent, Cause: errWindowOver}
	}
	if ctx.Err() != nil {
		return &EndpointError{Class: Unsent, Cause: context.Cause(ctx)}
	}
	return request.Send(ctx, claim.Token.Refresh())
}

// answer reads until quiet is over: the answer is the only copy of the pair, and
// nobody presents the token again before then.
func (s *Source) answer(after context.Context, request *TokenRequest) (Token, error) {
	ctx, cancel := context.WithTimeout(after, s.opts.Timing.quiet())
	defer cancel()
	return request.Answer(ctx)
}

// refused settles a definite 4xx (rule 6): it is believed only after a look at
// the store and, where configured, two introspections, for it may come from a
// proxy that never forwarded the request, or after another's rotation.
func (s *Source) refused(ctx context.Context, claim Record, refusal error) (outcome, error) {
	rec, err := s.load(ctx)
	if err != nil {
		return again, errors.Join(refusal, err)
	}
	if !s.remember(rec) || markOf(rec) != markOf(claim) {
		return again, nil // another record stands: adopt it
	}
	ours := classOf(refusal) == ClientRefused
	if !s.opts.Endpoint.Introspects() {
		if ours {
			return again, s.rejectClient(ctx, claim, refusal)
		}
		if e, ok := errors.AsType[*EndpointError](refusal); ok && e.Code == "" && e.Status != http.StatusBadRequest {
			s.openGate() // no error of RFC 6749 5.2: perhaps a proxy's. The claim stands, and the policy decides
			return again, refusal
		}
		return again, s.die(ctx, claim, reasonOf(refusal))
	}
	active, err := s.introspectTwice(ctx, claim)
	switch {
	case ours && (active || classOf(err) == ClientRefused):
		return again, s.rejectClient(ctx, claim, refusal)
	case err != nil:
		s.openGate()
		return again, errors.Join(refusal, err) // the claim stands
	case !active:
		return again, s.die(ctx, claim, reasonOf(refusal))
	}
	kept := claim
	kept.State, kept.Claim, kept.Doubt = StateOK, Claim{}, true
	if _, err := s.replace(ctx, kept, claim); err != nil {
		return again, err
	}
	return again, refusal // after a pause: the record is in doubt, and is resolved
}

// reasonOf is what a record may keep of a refusal: status and error code.
func reasonOf(refusal error) string {
	e, ok := errors.AsType[*EndpointError](refusal)
	switch {
	case !ok:
		return "the refresh token was refused"
	case e.Code == "":
		return fmt.Sprintf("the refresh token was refused: %d", e.Status)
	}
	return fmt.Sprintf("the refresh token was refused: %d %s", e.Status, e.Code)
}

// rejectClient stops the connection until the client id or secret is another.
// The pair stays, in doubt: a request with it was sent, so introspection must
// vouch for it before it is presented again.
func (s *Source) rejectClient(ctx context.Context, claim Record, refusal error) error {
	rec := claim
	rec.State, rec.Claim, rec.Doubt = StateClientRejected, Claim{}, true
	rec.Client, rec.Reason = s.opts.Endpoint.Client(), reasonOf(refusal)
	landed, err := s.replace(ctx, rec, claim)
	if landed {
		s.opts.Log.LogAttrs(ctx, slog.LevelError, "client id or secret refused; the pair is kept until they are mended",
			slog.String("connection", s.name), slog.Any("err", refusal))
	}
	return err
}

// die gives up the grant that rec stands on (rule 8): only a person can repair it.
func (s *Source) die(ctx context.Context, rec Record, reason string) error {
	landed, err := s.replace(ctx, rec.wipe(StateLoginRequired, reason), rec)
	if landed {
		s.opts.Log.LogAttrs(ctx, slog.LevelError, "grant is dead; a login is required",
			slog.String("connection", s.name), slog.String("reason", reason), slog.Uint64("version", rec.Version))
	}
	return err
}

// release takes back a claim with which nothing was sent: the record is as it
// was loaded, in doubt if it had been.
func (s *Source) release(after context.Context, loaded, claim Record) error {
	ctx, cancel := context.WithTimeout(after, storeTimeout)
	defer cancel()
	rec := loaded
	rec.State, rec.Claim, rec.Client, rec.Reason = StateOK, Claim{}, "", ""
	rec.Doubt = doubtful(loaded)
	_, err := s.replace(ctx, rec, claim)
	return err
}
