package tokens

import (
	"errors"
	"fmt"
	"time"
)

// What a caller of Source can be told. Every error of Source.Token and
// Source.Refresh is one of these, or the cause of the caller's own context.
var (
	// ErrLoginRequired says that the grant is dead or was never made: only a
	// person can help.
	ErrLoginRequired = errors.New("tokens: login required")
	// ErrClientRejected says that Pleo refuses our client id or secret. The pair
	// is kept; a mended secret is enough.
	ErrClientRejected = errors.New("tokens: client rejected")
	// ErrUnknownConnection says that there is no such connection.
	ErrUnknownConnection = errors.New("tokens: unknown connection")
	// ErrTokenUnavailable says that there is no token now, and that trying again
	// is worth it; RetryAfter tells when.
	ErrTokenUnavailable = errors.New("tokens: no token now")
	// ErrStoreUnavailable says that the store is away and no token in memory
	// serves; RetryAfter tells when to try again.
	ErrStoreUnavailable = errors.New("tokens: store unavailable")
)

// RetryAfter returns how long to wait before the next try, as err or the
// authorization server behind it says; 0 when neither does.
func RetryAfter(err error) time.Duration {
	if later, ok := errors.AsType[*laterError](err); ok {
		return later.after
	}
	if answer, ok := errors.AsType[*EndpointError](err); ok {
		return answer.RetryAfter
	}
	return 0
}

// laterError is a sentinel with a cause and a time to wait.
type laterError struct {
	sentinel, cause error
	after           time.Duration
}

func (e *laterError) Error() string {
	switch {
	case e.cause == nil:
		return e.sentinel.Error()
	case errors.Is(e.cause, e.sentinel):
		return e.cause.Error()
	}
	return fmt.Sprintf("%v: %v", e.sentinel, e.cause)
}

func (e *laterError) Unwrap() []error { return []error{e.sentinel, e.cause} }

// unavailable is what a caller gets for want of a token because of cause, worth
// another try after a while.
func unavailable(cause error, after time.Duration) error {
	if errors.Is(cause, ErrStoreUnavailable) {
		return &laterError{ErrStoreUnavailable, cause, min(after, storeRetry)}
	}
	return &laterError{ErrTokenUnavailable, cause, after}
}

// withReason adds to a final error what the record says of its cause.
func withReason(sentinel error, reason string) error {
	if reason == "" {
		return sentinel
	}
	return fmt.Errorf("%w: %s", sentinel, reason)
}

// storeError says that the store could not be asked or told, while doing what.
func storeError(doing string, err error) error {
	return fmt.Errorf("%s: %w: %w", doing, ErrStoreUnavailable, err)
}

// errClosed is why a source that is closing gives no token.
var errClosed = errors.New("tokens: shutting down")

// Class says what follows from a failed call to the authorization server. It is
// the only place where its answers are judged (design, table of failures).
type Class int

// The classes, from harmless to final.
const (
	// Unsent: not a byte of the request was written, so nothing was spent. No
	// connection, TLS failure, or the time to send was over.
	Unsent Class = iota + 1
	// InDoubt: the request was sent, and what came back does not tell whether
	// the refresh token was spent: no answer, a cut one, a 2xx that cannot be
	// read, any 3xx, 5xx, 408, 425 or 429, which something between may have made.
	InDoubt
	// Refused: any other 4xx. Terminal if introspection agrees, for a 403 may
	// come from a proxy that never forwarded the request.
	Refused
	// ClientRefused: invalid_client or unauthorized_client (RFC 6749 5.2), or a
	// 401 without a code, which that section reserves for client authentication.
	// A 401 with the code of a bad grant is Refused: Pleo documents neither, and
	// introspection tells them apart.
	ClientRefused
)

// String returns the class in words, for logs.
func (c Class) String() string {
	switch c {
	case Unsent:
		return "unsent"
	case InDoubt:
		return "in_doubt"
	case Refused:
		return "refused"
	case ClientRefused:
		return "client_refused"
	}
	return "unknown"
}

// EndpointError is a failed call to the authorization server. It holds nothing
// of the answer but its status and the error code, and nothing of the request.
type EndpointError struct {
	Class      Class
	Status     int           // HTTP status, 0 when there was no answer
	Code       string        // error member (RFC 6749 5.2), "" when there was none fit to show
	RetryAfter time.Duration // from the Retry-After field, 0 when there was none
	Cause      error         // what failed when there was no answer; nil otherwise
}

// Error says what came back, or what kept it from coming.
func (e *EndpointError) Error() string {
	switch {
	case e.Status == 0:
		return fmt.Sprintf("authorization server: %v", e.Cause)
	case e.Code == "" && e.Cause == nil:
		return fmt.Sprintf("authorization server answered %d", e.Status)
	case e.Code == "":
		return fmt.Sprintf("authorization server answered %d: %v", e.Status, e.Cause)
	default:
		return fmt.Sprintf("authorization server answered %d %s", e.Status, e.Code)
	}
}

// Unwrap returns Cause.
func (e *EndpointError) Unwrap() error { return e.Cause }

// ClientRejected returns err as the ErrClientRejected that it is to a caller of
// Source, if the authorization server refused our client; else err.
func ClientRejected(err error) error {
	if e, ok := errors.AsType[*EndpointError](err); ok && e.Class == ClientRefused {
		return fmt.Errorf("%w: %w", ErrClientRejected, err)
	}
	return err
}

// classOf returns the class of err, InDoubt for an error that is none of the
// endpoint's: what is not known to be harmless is not.
func classOf(err error) Class {
	if e, ok := errors.AsType[*EndpointError](err); ok {
		return e.Class
	}
	return InDoubt
}
