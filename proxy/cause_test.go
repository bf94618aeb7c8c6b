package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
)

func TestNetworkErrorsHaveCauses(t *testing.T) {
	dial := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	for _, c := range []struct {
		err   error
		cause cause
		slug  slug
	}{
		{dial(&net.DNSError{Name: "h", IsNotFound: true}), causeDNS, slugUpstreamUnreachable},
		{dial(&net.DNSError{Name: "h", IsTimeout: true}), causeDNSTimeout, slugUpstreamTimeout},
		{dial(os.NewSyscallError("connect", syscall.ECONNREFUSED)), causeRefused, slugUpstreamUnreachable},
		{dial(os.NewSyscallError("connect", syscall.ENETUNREACH)), causeUnroutable, slugUpstreamUnreachable},
		{dial(os.NewSyscallError("connect", syscall.EHOSTUNREACH)), causeUnroutable, slugUpstreamUnreachable},
		{dial(os.ErrDeadlineExceeded), causeConnect, slugUpstreamTimeout},
		{&net.OpError{Op: "read", Err: syscall.ETIMEDOUT}, causeRead, slugUpstreamTimeout},
		{&net.OpError{Op: "write", Err: os.ErrDeadlineExceeded}, causeWrite, slugUpstreamTimeout},
		{&net.OpError{Op: "read", Err: syscall.ECONNRESET}, causeTerminated, slugUpstreamUnreachable},
		{&net.OpError{Op: "write", Err: syscall.EPIPE}, causeTerminated, slugUpstreamUnreachable},
		{fmt.Errorf("wrapped: %w", io.EOF), causeTerminated, slugUpstreamUnreachable},
		{io.ErrUnexpectedEOF, causeTerminated, slugUpstreamUnreachable},
		{context.DeadlineExceeded, causeResponse, slugUpstreamTimeout},
		{&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, causeCertificate, slugUpstreamUnreachable},
		{&net.OpError{Op: "remote error", Err: tls.AlertError(40)}, causeAlert, slugUpstreamUnreachable},
		{tls.RecordHeaderError{Msg: "first record"}, causeTLS, slugUpstreamUnreachable},
		{errors.New("malformed"), causeProtocol, slugUpstreamUnreachable},
	} {
		s, p := problemOf(upstreamFailed(c.err))
		if s != c.slug || p.proxy != string(c.cause) {
			t.Errorf("%v is %s, %s; want %s, %s", c.err, s, p.proxy, c.slug, c.cause)
		}
	}
}

func TestTextOfAnUpstreamErrorQuotesNothingThatWasSent(t *testing.T) {
	err := upstreamFailed(fmt.Errorf("malformed MIME header: %q", "Set-Cookie "+firstAccess))
	if got, want := err.Error(), "proxy: no answer from the upstream: http_protocol_error"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	err = upstreamFailed(&net.OpError{Op: "dial", Err: &net.DNSError{Name: "h", Err: "no such host"}})
	if got, want := err.Error(), "proxy: no answer from the upstream: dns_error: lookup h: no such host"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestUntrustedUpstreamGetsNothing(t *testing.T) {
	up := &fakeUpstream{}
	server := httptest.NewUnstartedServer(up)
	server.Config.ErrorLog = discard
	server.StartTLS()
	defer server.Close()
	u := mustParse(t, server.URL)
	s := start(t, u, &fakeSource{access: []string{firstAccess}})
	a := s.get("/v1/x")
	wantProblem(t, a, slugUpstreamUnreachable)
	if got := a.Header.Get("Proxy-Status"); got != "pleo-sidecar; error=tls_certificate_error" {
		t.Errorf("Proxy-Status %q", got)
	}
	if n := len(up.arrivals()); n != 0 {
		t.Errorf("%d requests arrived", n)
	}
	s.waitEnd()
	if !strings.Contains(s.log.String(), "certificate signed by unknown authority") {
		t.Errorf("the log does not say why: %s", s.log)
	}
}
