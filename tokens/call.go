package tokens

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"
)

const (
	// maxHead bounds status line and fields of an answer, with the 1xx answers
	// before it. net/http's servers allow 1 MiB, common ones 8 to 32 KiB.
	maxHead = 64 << 10
	// maxInformational bounds the 1xx answers that are skipped (net/http: 5).
	maxInformational = 5
	// maxBody bounds the JSON of an answer: far above any pair of tokens, which
	// have no length we may rely on.
	maxBody = 1 << 20
)

var (
	errMalformed = errors.New("not an HTTP answer")
	errNotObject = errors.New("body is not a JSON object")
	errTooLong   = errors.New("answer is too long")
	errTwice     = errors.New("the request was already sent")
	errNotSent   = errors.New("no request was sent")
)

func unsent(cause error) *EndpointError { return &EndpointError{Class: Unsent, Cause: cause} }

// call is one HTTP request on one network connection: connected, sent once,
// answered once.
type call struct {
	to      target
	wire    *wire
	conn    net.Conn // wire, or TLS on it
	in      *bounded // what is read from conn
	sent    atomic.Bool
	issued  time.Time // wall time just before the request was written; zero before
	secrets []Secret  // what the request holds, so that no error repeats it
}

func newCall(to target, w *wire, conn net.Conn) *call {
	return &call{to: to, wire: w, conn: conn, in: &bounded{r: conn, left: maxHead}}
}

// send writes request, once and in one Write.
func (c *call) send(ctx context.Context, request []byte, secrets []Secret) error {
	if !c.sent.CompareAndSwap(false, true) {
		return unsent(errTwice)
	}
	before := c.wire.out.Load()
	err := c.wire.during(ctx, func() error {
		now := time.Now()
		if over(ctx, now) {
			return context.DeadlineExceeded
		}
		c.issued, c.secrets = now, secrets
		_, err := c.conn.Write(request)
		return err
	})
	if err == nil {
		return nil
	}
	_ = c.wire.Close()
	err = fmt.Errorf("write request: %w", err)
	if c.wire.out.Load() == before {
		c.issued = time.Time{}
		return unsent(err)
	}
	return &EndpointError{Class: InDoubt, Cause: err}
}

// over reports whether ctx has ended at now, by the monotonic or the wall clock:
// the monotonic one stops while a machine is suspended (protocol, 2.0).
func over(ctx context.Context, now time.Time) bool {
	end, ok := ctx.Deadline()
	return ctx.Err() != nil || ok && (!now.Before(end) || !now.Round(0).Before(end.Round(0)))
}

func (c *call) close() error {
	if err := c.wire.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// answer reads the one answer. Its error means that there was none; an answer
// whose body cannot be read is an answer.
func (c *call) answer(ctx context.Context) (*answer, error) {
	if c.issued.IsZero() {
		return nil, unsent(errNotSent)
	}
	a := &answer{issued: c.issued, secrets: c.secrets}
	fault := c.wire.during(ctx, func() error { return c.read(a) })
	if a.status == 0 {
		return nil, &EndpointError{Class: InDoubt, Cause: fmt.Errorf("read answer: %w", fault)}
	}
	if a.fault = fault; fault == nil {
		c.wire.politely()
	}
	return a, nil
}

func (c *call) read(a *answer) error {
	br := bufio.NewReader(c.in)
	status, header, body, err := readHead(br, nil)
	if err != nil {
		return c.in.fault(errMalformed)
	}
	a.status, a.header = status, header
	c.in.left = 8 * maxBody // chunks of one byte make six of it
	members, err := readObject(&bounded{r: body, left: maxBody})
	if err != nil {
		return c.in.fault(err)
	}
	a.members = members
	return nil
}

// readHead reads an answer up to its body, and skips the 1xx ones before it
// (RFC 9110 15.2). The error is not for showing: it quotes the answer.
func readHead(br *bufio.Reader, to *http.Request) (status int, header http.Header, body io.Reader, err error) {
	for range maxInformational + 1 {
		r, err := http.ReadResponse(br, to)
		if err != nil {
			return 0, nil, nil, err
		}
		if r.StatusCode/100 != 1 || r.StatusCode == http.StatusSwitchingProtocols {
			return r.StatusCode, r.Header, r.Body, nil
		}
	}
	return 0, nil, nil, errMalformed
}

// readObject reads one JSON object, and not a byte more than its end needs: a
// pair that has arrived whole is not lost because the connection is cut behind
// it, or because something follows. Names are compared exactly, as
// encoding/json does with a map but not with a struct; of a name that comes
// twice the last one counts, as with every usual parser.
func readObject(body *bounded) (map[string]json.RawMessage, error) {
	var members map[string]json.RawMessage
	err := json.NewDecoder(body).Decode(&members)
	switch {
	case body.err != nil && errors.Is(body.err, errTooLong):
		return nil, errTooLong
	case err != nil || members == nil:
		return nil, errNotObject
	}
	return members, nil
}

// bounded reads at most left bytes, and keeps the error that ended it: errors
// of the parsers above quote the answer and are not shown.
type bounded struct {
	r    io.Reader
	left int64
	err  error
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		b.err = errTooLong
	}
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	b.err = err
	return n, err
}

// fault says why what was read makes no sense: the connection's own error if
// there was one, else why.
func (b *bounded) fault(why error) error {
	switch {
	case b.err == nil:
		return why
	case errors.Is(b.err, io.EOF):
		return io.ErrUnexpectedEOF
	}
	return b.err
}

// wire is the bare network connection under TLS. It counts the bytes that go
// out, and lets a context end what is done with it.
type wire struct {
	net.Conn
	out atomic.Int64 // bytes written
}

// newWire makes closing conn a reset, until politely says otherwise: bytes that
// wait in the kernel are dropped with the connection, and with the process.
// Without that a refresh token could still go out after a kill -9, when others
// have found its claim abandoned.
func newWire(conn net.Conn) *wire {
	w := &wire{Conn: conn}
	w.linger(0)
	return w
}

// politely makes closing an ordinary end again.
func (w *wire) politely() { w.linger(-1) }

func (w *wire) linger(seconds int) {
	if c, ok := w.Conn.(interface{ SetLinger(int) error }); ok {
		_ = c.SetLinger(seconds)
	}
}

// Write counts what it writes.
func (w *wire) Write(p []byte) (int, error) {
	n, err := w.Conn.Write(p)
	w.out.Add(int64(n))
	return n, err
}

// during runs f, whose reads and writes end when ctx does, and tells of the end
// of ctx instead of the time-out that it made.
func (w *wire) during(ctx context.Context, f func() error) error {
	if end, ok := ctx.Deadline(); ok {
		_ = w.SetDeadline(end)
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		_ = w.SetDeadline(time.Unix(1, 0)) // past: wakes whoever reads or writes
	})
	err := f()
	if !stop() {
		<-ended
	}
	_ = w.SetDeadline(time.Time{})
	return endedBy(ctx, err)
}

// endedBy returns the end of ctx in place of an error that it caused. Only
// contexts set deadlines on our connections, and the connection may notice one
// a moment before the context does.
func endedBy(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return context.DeadlineExceeded
	}
	return err
}
