package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"syscall"
)

// cause is why the upstream gave no answer, as an error type of Proxy-Status
// (RFC 9209 2.3). It is all that leaves us: the text of a network error may quote
// what the upstream sent.
type cause string

const (
	causeDNS         cause = "dns_error"
	causeDNSTimeout  cause = "dns_timeout"
	causeCertificate cause = "tls_certificate_error"
	causeAlert       cause = "tls_alert_received"
	causeTLS         cause = "tls_protocol_error"
	causeConnect     cause = "connection_timeout"
	causeRead        cause = "connection_read_timeout"
	causeWrite       cause = "connection_write_timeout"
	causeResponse    cause = "http_response_timeout"
	causeRefused     cause = "connection_refused"
	causeUnroutable  cause = "destination_ip_unroutable"
	causeTerminated  cause = "connection_terminated"
	causeProtocol    cause = "http_protocol_error"
)

// upstreamError is a request that got no answer from the upstream.
type upstreamError struct {
	cause cause
	err   error
}

// Error says why, and more only where the text cannot hold what was sent.
func (e *upstreamError) Error() string {
	text := "proxy: no answer from the upstream: " + string(e.cause)
	if plain := plainText(e.err); plain != "" {
		text += ": " + plain
	}
	return text
}

// Unwrap returns the error of the network.
func (e *upstreamError) Unwrap() error { return e.err }

func (e *upstreamError) slug() slug {
	switch e.cause {
	case causeDNSTimeout, causeConnect, causeRead, causeWrite, causeResponse:
		return slugUpstreamTimeout
	default:
		return slugUpstreamUnreachable
	}
}

// upstreamFailed marks err as the upstream's, unless it is the caller's body that
// failed while it streamed.
func upstreamFailed(err error) error {
	if errors.Is(err, errBody) {
		return err
	}
	return &upstreamError{causeOf(err), err}
}

// causeOf classifies an error of http.Transport.
func causeOf(err error) cause {
	var dns *net.DNSError
	if errors.As(err, &dns) {
		if dns.IsTimeout {
			return causeDNSTimeout
		}
		return causeDNS
	}
	if c := causeOfTLS(err); c != "" {
		return c
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return causeOfTimeout(err)
	}
	for _, m := range byErrno {
		if errors.Is(err, m.err) {
			return m.cause
		}
	}
	return causeProtocol
}

func causeOfTLS(err error) cause {
	var certificate *tls.CertificateVerificationError
	var alert tls.AlertError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &certificate):
		return causeCertificate
	case errors.As(err, &alert):
		return causeAlert
	case errors.As(err, &record):
		return causeTLS
	}
	return ""
}

func causeOfTimeout(err error) cause {
	var op *net.OpError
	if !errors.As(err, &op) {
		return causeResponse
	}
	switch op.Op {
	case "dial", "proxyconnect":
		return causeConnect
	case "write":
		return causeWrite
	default:
		return causeRead
	}
}

var byErrno = []struct {
	err   error
	cause cause
}{
	{syscall.ECONNREFUSED, causeRefused},
	{syscall.EHOSTUNREACH, causeUnroutable},
	{syscall.ENETUNREACH, causeUnroutable},
	{syscall.ECONNRESET, causeTerminated},
	{syscall.EPIPE, causeTerminated},
	{io.EOF, causeTerminated},
	{io.ErrUnexpectedEOF, causeTerminated},
	{net.ErrClosed, causeTerminated},
}

// plainText returns the text of the error inside err that names only hosts,
// certificates and numbers of the system, "" when there is none.
func plainText(err error) string {
	var dns *net.DNSError
	var errno syscall.Errno
	var authority x509.UnknownAuthorityError
	var hostname x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &dns):
		return dns.Error()
	case errors.As(err, &errno):
		return errno.Error()
	case errors.As(err, &authority):
		return authority.Error()
	case errors.As(err, &hostname):
		return hostname.Error()
	case errors.As(err, &invalid):
		return invalid.Error()
	}
	return ""
}
