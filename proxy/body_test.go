package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// A parser's own words quote what the caller sent.
func TestNoRecordQuotesAMalformedTrailer(t *testing.T) {
	up := newFakeUpstream(t, nil)
	s := start(t, up.url, &fakeSource{access: []string{firstAccess}})
	readAllRaw(t, s.addr, "POST /v1/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"+
		"2\r\nhi\r\n0\r\nX-Webhook-Secret whsec_9d1c\r\n\r\n")
	<-s.ended
	if text := s.log.String(); strings.Contains(text, "whsec_9d1c") {
		t.Errorf("log quotes the caller's bytes: %s", text)
	}
}

// A caller that announces a long body and sends a byte must not take the room of
// all others.
func TestAnnouncedBodyTakesNoMoreRoomThanItSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit, most = 64 << 10, 256 << 10
		r := newReplayer(limit, most)
		var writers []*io.PipeWriter
		for range 4 {
			body, w := io.Pipe()
			writers = append(writers, w)
			go func() {
				if c, err := r.hold(&http.Request{Body: body, ContentLength: limit}); err == nil {
					c.release()
				}
			}()
			go func() { _, _ = w.Write([]byte("x")) }()
		}
		synctest.Wait()
		if left := r.budget.left.Load(); left < most/2 {
			t.Errorf("%d of %d are left after four bytes", left, most)
		}
		for _, w := range writers {
			w.CloseWithError(io.ErrUnexpectedEOF)
		}
		synctest.Wait()
		if left := r.budget.left.Load(); left != most {
			t.Errorf("%d of %d came back", left, most)
		}
	})
}

// The upstream read the POST, may have applied it, and hung up. http.Transport
// would send it again for the sake of the field alone.
func TestPostWithAnIdempotencyKeyIsSentOnce(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var posts atomic.Int32
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for br := bufio.NewReader(conn); ; {
					r, err := http.ReadRequest(br)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, r.Body)
					if r.Method == http.MethodPost && posts.Add(1) == 1 {
						return // read whole, no answer
					}
					fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				}
			}()
		}
	}()
	s := start(t, &url.URL{Scheme: "http", Host: l.Addr().String()}, &fakeSource{access: []string{firstAccess}})
	s.get("/warm") // so that the POST meets a connection that was used before
	r := s.request(http.MethodPost, "/v3/export-jobs", strings.NewReader("{}"))
	r.Header.Set("Idempotency-Key", "k")
	s.do(r)
	if n := posts.Load(); n != 1 {
		t.Errorf("sent %d times, want once", n)
	}
}
