package proxy

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"sync/atomic"
)

// skip says why a request cannot be sent again; "" when it can.
type skip string

const (
	skipTooLarge skip = "body-too-large" // longer than the replay limit
	skipBudget   skip = "budget"         // no room left in the replay budget
)

// firstHold is the room taken at first for a body of unknown length, in bytes; it
// doubles as the body turns out to be longer.
const firstHold = 4 << 10

// replayer holds request bodies in memory, so that a request can be sent twice,
// within a limit for each and a budget for all.
type replayer struct {
	limit  int64
	budget budget
}

func newReplayer(limit, total int64) *replayer {
	p := &replayer{limit: limit}
	p.budget.left.Store(total)
	return p
}

// content is the body of one request, ready to be sent: any number of times when
// it is held, once when it streams. nil is the content of a request without one.
//
// Its room in the budget is given back when RoundTrip and every reader are done
// with it: http.Transport may go on reading after it has answered.
type content struct {
	held   []byte        // all of it, or what was read before it proved too long
	rest   io.ReadCloser // what follows held on the wire; nil when held is all
	length int64         // as http.Request.ContentLength
	reason skip

	budget *budget
	taken  int64
	users  atomic.Int32
}

// hold reads the body of r, if it may be held, and leaves the rest to stream.
// A body of unknown length is read up to the limit to see whether it ends; nothing
// is sent meanwhile.
func (p *replayer) hold(r *http.Request) (*content, error) {
	if r.Body == nil || r.Body == http.NoBody {
		return nil, nil
	}
	c := &content{rest: &callerBody{r.Body}, length: r.ContentLength, budget: &p.budget}
	c.users.Store(1)
	switch {
	case p.limit <= 0, c.length > p.limit:
		c.reason = skipTooLarge
		return c, nil
	}
	most := p.limit + 1
	if c.length >= 0 {
		most = c.length
	}
	// In steps, or a caller that announces a body and sends none takes room.
	for size := min(firstHold, most); ; size = min(2*size, most) {
		c, err := c.fill(size)
		switch {
		case err != nil || c == nil || c.rest == nil || c.reason != "":
			return c, err
		case int64(len(c.held)) > p.limit:
			c.reason = skipTooLarge
			return c, nil
		}
	}
}

// fill reads until size bytes are held or the body ends, in which case rest
// becomes nil. The room is taken before anything is read.
func (c *content) fill(size int64) (*content, error) {
	if more := size - int64(cap(c.held)); !c.budget.take(more) {
		c.reason = skipBudget
		return c, nil
	} else {
		c.taken += more
	}
	grown := make([]byte, size)
	n := copy(grown, c.held)
	m, ended, err := readAll(c.rest, grown[n:])
	c.held = grown[:n+m]
	have := int64(len(c.held))
	if err == nil && ended && c.length > have {
		err = io.ErrUnexpectedEOF
	}
	switch {
	case err != nil:
		c.release()
		return nil, bodyFailed(err)
	case have != c.length && !ended:
		return c, nil // full, and perhaps at its end
	}
	c.rest.Close()
	c.rest, c.length = nil, int64(len(c.held))
	if c.length == 0 {
		c.release()
		return nil, nil // RFC 9112 6: no content is not the same as an empty stream
	}
	return c, nil
}

// readAll fills p and reports whether r ended before. io.ReadFull would not do: it
// says ErrUnexpectedEOF for a short body and a torn one alike, and a torn one must
// never be sent as if it were whole.
func readAll(r io.Reader, p []byte) (n int, ended bool, err error) {
	for n < len(p) {
		m, err := r.Read(p[n:])
		n += m
		if err == io.EOF {
			return n, n < len(p), nil
		}
		if err != nil {
			return n, false, err
		}
	}
	return n, false, nil
}

// skipped returns why c cannot be sent again, "" when it can.
func (c *content) skipped() skip {
	if c == nil {
		return ""
	}
	return c.reason
}

// attach gives out its own reader of the content. out.GetBody lets http.Transport
// move a request to another network connection when nothing of it was sent, or
// when the upstream vouches that it did not look at it (HTTP/2 GOAWAY).
func (c *content) attach(out *http.Request) {
	out.Body, out.GetBody, out.ContentLength = nil, nil, 0
	if c == nil {
		return
	}
	out.ContentLength = c.length
	out.Body = c.reader()
	if c.rest == nil {
		if !replayedByKey(out.Header) {
			out.GetBody = func() (io.ReadCloser, error) { return c.reader(), nil }
		}
		// The bytes are here: to wait for the upstream's leave gains nothing.
		out.Header.Del("Expect")
	}
}

// reader returns a reader of the content from its beginning. A streaming content
// has only one.
func (c *content) reader() io.ReadCloser {
	c.users.Add(1)
	b := &attemptBody{content: c}
	b.held.Reset(c.held)
	b.Reader = &b.held
	if c.rest != nil {
		b.Reader = io.MultiReader(&b.held, c.rest)
	}
	return b
}

// release gives up one use of c. The last one closes the caller's body and gives
// the room back.
func (c *content) release() {
	if c == nil || c.users.Add(-1) > 0 {
		return
	}
	if c.rest != nil {
		c.rest.Close()
	}
	c.budget.give(c.taken)
}

// attemptBody is the body of one attempt.
type attemptBody struct {
	io.Reader
	held    bytes.Reader
	content *content
	closed  atomic.Bool
}

// Close ends the attempt's use of the content. http.Transport may call it twice,
// and while another goroutine of its own reads.
func (b *attemptBody) Close() error {
	if b.closed.CompareAndSwap(false, true) {
		if b.content.rest != nil {
			b.content.rest.Close()
		}
		b.content.release()
	}
	return nil
}

// Read reads the next bytes, http.ErrBodyReadAfterClose once it is closed.
func (b *attemptBody) Read(p []byte) (int, error) {
	if b.closed.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	return b.Reader.Read(p)
}

// callerBody is the caller's body as it comes. It marks read errors as the
// caller's, so that they are not blamed on the upstream.
type callerBody struct{ io.ReadCloser }

// Read reads the next bytes.
func (b *callerBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == nil || err == io.EOF {
		return n, err
	}
	return n, bodyFailed(err)
}

// bodyFailed marks err as a failure to read the caller's body.
func bodyFailed(err error) error {
	if errors.Is(err, errBody) {
		return err
	}
	return &bodyError{err}
}

// bodyError is a failure to read the caller's body. Its text leaves the cause
// out, which may quote what the caller sent.
type bodyError struct{ cause error }

func (e *bodyError) Error() string   { return errBody.Error() }
func (e *bodyError) Unwrap() []error { return []error{errBody, e.cause} }

// budget is a number of bytes that all requests share.
type budget struct{ left atomic.Int64 }

// take reserves n bytes and reports whether there were as many.
func (b *budget) take(n int64) bool {
	for {
		left := b.left.Load()
		if left < n {
			return false
		}
		if b.left.CompareAndSwap(left, left-n) {
			return true
		}
	}
}

// give returns n bytes.
func (b *budget) give(n int64) { b.left.Add(n) }

// replayedByKey reports whether http.Transport would send again a request of any
// method that the upstream may have applied.
func replayedByKey(h http.Header) bool {
	return h["Idempotency-Key"] != nil || h["X-Idempotency-Key"] != nil
}
