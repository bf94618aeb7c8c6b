package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
)

// limit of these tests, as start sets it.
const replayLimit = 1 << 10

func TestBodiesUpToTheLimitAreSentAgain(t *testing.T) {
	for _, size := range []int{0, 1, replayLimit - 1, replayLimit, replayLimit + 1, 100 * replayLimit} {
		for _, known := range []bool{true, false} {
			t.Run(fmt.Sprintf("size=%d known=%v", size, known), func(t *testing.T) {
				up := newFakeUpstream(t, accepts(secondAccess))
				s := start(t, up.url, &fakeSource{access: []string{firstAccess, secondAccess}})
				content := strings.Repeat("0123456789abcdef", size/16+1)[:size]
				var body io.Reader = strings.NewReader(content)
				if !known {
					body = onlyReader{body}
				}
				a := s.do(s.request("POST", "/v1/x", body))
				came := up.arrivals()
				if size <= replayLimit {
					wantUpstream(t, a, 200)
					if len(came) != 2 || came[1].body != content || came[1].length != int64(size) {
						t.Fatalf("%d arrived, the last with %d bytes", len(came), came[len(came)-1].length)
					}
				} else {
					wantUpstream(t, a, http.StatusUnauthorized)
					if got := a.Header.Get("Pleo-Sidecar-Retry"); got != "skipped; reason=body-too-large" || a.body != "token rejected" {
						t.Errorf("Pleo-Sidecar-Retry %q, content %q", got, a.body)
					}
					if len(came) != 1 || s.source.refreshes() != 1 {
						t.Errorf("%d arrived, %d refreshes, want 1 and 1", len(came), s.source.refreshes())
					}
				}
				if came[0].body != content {
					t.Errorf("the first attempt had %d bytes", len(came[0].body))
				}
				if known && came[0].length != int64(size) {
					t.Errorf("length %d, want %d", came[0].length, size)
				}
				s.wantWholeBudget()
			})
		}
	}
}

func TestWithoutBudgetBodiesStream(t *testing.T) {
	up := newFakeUpstream(t, accepts(secondAccess))
	for _, body := range []io.Reader{strings.NewReader("hello"), onlyReader{strings.NewReader("hello")}} {
		up.came = nil
		s := start(t, up.url, &fakeSource{access: []string{firstAccess, secondAccess}}, func(o *Options) { o.ReplayBudget = 4 })
		a := s.do(s.request("POST", "/v1/x", body))
		wantUpstream(t, a, http.StatusUnauthorized)
		if got := a.Header.Get("Pleo-Sidecar-Retry"); got != "skipped; reason=budget" {
			t.Errorf("Pleo-Sidecar-Retry %q", got)
		}
		if got := up.only(t).body; got != "hello" {
			t.Errorf("arrived %q", got)
		}
		s.wantWholeBudget()
	}
}

func TestRefreshIsAskedForEvenIfTheBodyIsGone(t *testing.T) {
	up := newFakeUpstream(t, accepts(secondAccess))
	source := &fakeSource{access: []string{firstAccess, secondAccess}}
	s := start(t, up.url, source, func(o *Options) { o.ReplayLimit = 0 })
	a := s.do(s.request("POST", "/v1/x", strings.NewReader("hello")))
	if got := a.Header.Get("Pleo-Sidecar-Retry"); got != "skipped; reason=body-too-large" {
		t.Errorf("Pleo-Sidecar-Retry %q", got)
	}
	wantUpstream(t, s.do(s.request("POST", "/v1/x", strings.NewReader("hello"))), 200)
}

func TestTornBodyIsNeverSentAsAWhole(t *testing.T) {
	for name, text := range map[string]string{
		"chunked": "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\nhe",
		"no end":  "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
		"bad":     "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			up := newFakeUpstream(t, nil)
			s := start(t, up.url, &fakeSource{access: []string{firstAccess}})
			_ = s.cut("POST /v1/x HTTP/1.1\r\nHost: localhost\r\n" + text)
			s.waitEnd()
			if n := len(up.arrivals()); n != 0 {
				t.Errorf("%d requests arrived", n)
			}
			s.wantWholeBudget()
		})
	}
	t.Run("known length", func(t *testing.T) {
		up := newFakeUpstream(t, nil)
		s := start(t, up.url, &fakeSource{access: []string{firstAccess}})
		_ = s.cut("POST /v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhello")
		s.waitEnd()
		if n := len(up.arrivals()); n != 0 {
			t.Errorf("%d requests arrived", n)
		}
	})
}

func TestExpectGoesUpstreamOnlyWithAStreamedBody(t *testing.T) {
	for size, want := range map[int]string{10: "", 2 * replayLimit: "100-continue"} {
		up := newFakeUpstream(t, nil)
		s := start(t, up.url, &fakeSource{access: []string{firstAccess}})
		r := s.request("POST", "/v1/x", strings.NewReader(strings.Repeat("x", size)))
		r.Header.Set("Expect", "100-continue")
		wantUpstream(t, s.do(r), 200)
		got := up.only(t)
		if got.header.Get("Expect") != want || len(got.body) != size {
			t.Errorf("Expect %q with %d bytes, want %q with %d", got.header.Get("Expect"), len(got.body), want, size)
		}
	}
}

func TestTooLargeContentIsToldAsSuch(t *testing.T) {
	up := newFakeUpstream(t, nil)
	s := start(t, up.url, &fakeSource{access: []string{firstAccess}})
	limited := serve(t, &http.Server{Handler: http.MaxBytesHandler(s.Handler, 4)})
	for _, body := range []io.Reader{onlyReader{strings.NewReader("hello")}, strings.NewReader(strings.Repeat("x", 2*replayLimit))} {
		r := s.request("POST", "/v1/x", body)
		r.URL.Host = limited
		wantProblem(t, s.do(r), slugContentTooLarge)
	}
}

func TestRoomIsKeptUntilEveryReaderIsDone(t *testing.T) {
	p := newReplayer(replayLimit, replayLimit)
	r, _ := http.NewRequest("POST", "/", strings.NewReader("hello"))
	c, err := p.hold(r)
	if err != nil {
		t.Fatal(err)
	}
	first, second := c.reader(), c.reader()
	c.release()
	steps := []io.Closer{first, first, second}
	for i, want := range []int64{replayLimit - 5, replayLimit - 5, replayLimit} {
		steps[i].Close()
		if got := p.budget.left.Load(); got != want {
			t.Errorf("after close %d the budget is %d, want %d", i, got, want)
		}
	}
	if _, err := second.Read(make([]byte, 1)); !errors.Is(err, http.ErrBodyReadAfterClose) {
		t.Errorf("read after close: %v", err)
	}
}

func TestAttemptsReadIndependently(t *testing.T) {
	p := newReplayer(replayLimit, replayLimit)
	r, _ := http.NewRequest("POST", "/", strings.NewReader("hello"))
	c, err := p.hold(r)
	if err != nil {
		t.Fatal(err)
	}
	first, second := c.reader(), c.reader()
	var a, b bytes.Buffer
	_, _ = io.CopyN(&a, first, 3)
	_, _ = io.Copy(&b, second)
	_, _ = io.Copy(&a, first)
	if a.String() != "hello" || b.String() != "hello" {
		t.Errorf("read %q and %q", &a, &b)
	}
}

// FuzzHold holds a body that comes in pieces, under any limit and budget: what is
// sent must be what came, held content within the limit and whole, and all room
// given back.
func FuzzHold(f *testing.F) {
	f.Add(uint16(0), int32(10), int32(10), false, false, false)
	f.Add(uint16(5), int32(10), int32(10), true, false, false)
	f.Add(uint16(5), int32(4), int32(10), false, false, false)
	f.Add(uint16(10000), int32(20000), int32(9000), false, false, false)
	f.Add(uint16(10000), int32(10000), int32(90000), false, true, false)
	f.Add(uint16(5), int32(4), int32(10), false, false, true)
	f.Fuzz(func(t *testing.T, size uint16, narrow, wide int32, known, torn, eager bool) {
		limit, total := int64(narrow)%(1<<17), int64(wide)%(1<<17)
		body := make([]byte, size)
		for i := range body {
			body[i] = byte(i * 7 >> 3)
		}
		p := newReplayer(limit, total)
		errTorn := errors.New("torn")
		var in io.Reader = iotest.HalfReader(bytes.NewReader(body))
		if eager { // the last bytes come together with the end
			in = iotest.DataErrReader(in)
		}
		if torn {
			in = io.MultiReader(in, iotest.ErrReader(errTorn))
		}
		r, _ := http.NewRequest("POST", "/", onlyReader{in})
		r.ContentLength = -1
		if known && len(body) > 0 {
			r.ContentLength = int64(len(body))
		}
		c, err := p.hold(r)
		if err != nil {
			if !torn || !errors.Is(err, errTorn) {
				t.Fatal(err)
			}
			if got := p.budget.left.Load(); got != total {
				t.Errorf("budget %d after an error, want %d", got, total)
			}
			return
		}
		times := 2
		if c.skipped() != "" {
			times = 1
		} else if c != nil && (int64(len(c.held)) > limit || c.rest != nil) {
			t.Fatalf("held %d bytes over a limit of %d", len(c.held), limit)
		}
		for range times {
			out, _ := http.NewRequest("POST", "/", nil)
			c.attach(out)
			if out.Body == nil {
				if len(body) > 0 {
					t.Fatal("the body is gone")
				}
				continue
			}
			got, err := io.ReadAll(out.Body)
			out.Body.Close()
			if (out.GetBody != nil) != (c.skipped() == "") {
				t.Fatal("GetBody does not fit")
			}
			if out.GetBody != nil {
				again, _ := out.GetBody()
				got, err = io.ReadAll(again)
				again.Close()
			}
			// A body of known length ends there, whatever would have come after it.
			if err != nil && !torn || err == nil && torn && !known {
				t.Fatalf("read: %v", err)
			}
			if !bytes.Equal(got, body) {
				t.Fatalf("sent %d bytes, came %d", len(got), len(body))
			}
		}
		c.release()
		if got := p.budget.left.Load(); got != total {
			t.Errorf("budget %d, want %d", got, total)
		}
	})
}
