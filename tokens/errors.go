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

// RetryAfter returns how long the sender of err asks to wait before the next
// try, 0 when it does not say.
func RetryAfter(err error) time.Duration {
	var later *laterError
	if errors.As(err, &later) {
		return later.after
	}
	return 0
}

// laterError is a sentinel with a cause and a time to wait.
type laterError struct {
	sentinel, cause error
	after           time.Duration
}

func (e *laterError) Error() string {
	if e.cause == nil {
		return e.sentinel.Error()
	}
	return fmt.Sprintf("%v: %v", e.sentinel, e.cause)
}

func (e *laterError) Unwrap() []error { return []error{e.sentinel, e.cause} }

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
	// 401, which that section reserves for client authentication.
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

// classOf returns the class of err, InDoubt for an error that is none of the
// endpoint's: what is not known to be harmless is not.
func classOf(err error) Class {
	var e *EndpointError
	if errors.As(err, &e) {
		return e.Class
	}
	return InDoubt
}
