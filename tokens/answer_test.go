package tokens

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestEveryStatusHasItsClass(t *testing.T) {
	for status := range 1000 {
		for _, code := range []string{"", "invalid_grant", "invalid_refresh_token", "invalid_request", "invalid_client", "unauthorized_client", "Invalid_Client"} {
			want := InDoubt
			if status >= 400 && status <= 499 {
				want = Refused
				if code == "invalid_client" || code == "unauthorized_client" || status == 401 && code == "" {
					want = ClientRefused
				}
			}
			switch status {
			case 408, 425, 429:
				want = InDoubt
			}
			if got := classify(status, code); got != want {
				t.Errorf("classify(%d, %q) = %s, want %s", status, code, got, want)
			}
		}
	}
}

// head is the beginning of an answer whose body ends with the connection.
func head(status string, fields ...string) string {
	return "HTTP/1.1 " + status + " x\r\n" + strings.Join(append(fields, "", ""), "\r\n")
}

func TestAnswers(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 1024)
	big := strings.Repeat(" ", maxBody)
	chunks := "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	for _, test := range []struct {
		name, raw       string
		access, refresh string // of a success
		class           Class  // of a failure
		status          int
		code, cause     string
	}{
		{name: "a pair", raw: json200(goodBody), access: "access-2", refresh: "refresh-2"},
		{name: "any 2xx with a pair", raw: strings.Replace(json200(goodBody), "200", "299", 1), access: "access-2", refresh: "refresh-2"},
		{name: "a body that ends with the connection", raw: head("200") + goodBody, access: "access-2", refresh: "refresh-2"},
		{name: "HTTP/1.0", raw: strings.Replace(head("200"), "1.1", "1.0", 1) + goodBody, access: "access-2", refresh: "refresh-2"},
		{name: "no refresh token", raw: json200(`{"access_token":"a"}`), access: "a"},
		{name: "null refresh token", raw: json200(`{"access_token":"a","refresh_token":null}`), access: "a"},
		{name: "empty refresh token", raw: json200(`{"access_token":"a","refresh_token":""}`), access: "a"},
		{name: "null error", raw: json200(`{"error":null,"access_token":"a"}`), access: "a"},
		{name: "empty error", raw: json200(`{"error":"","access_token":"a"}`), access: "a"},
		{name: "names of another case are others", raw: json200(`{"access_token":"a","Access_Token":"b","REFRESH_TOKEN":"c","Error":"d"}`), access: "a"},
		{name: "of two the last", raw: json200(`{"access_token":"a","access_token":"b"}`), access: "b"},
		{name: "escapes", raw: json200(`{"access\u005ftoken":"a\/\u0041+ \"\\é\t"}`), access: "a/A+ \"\\é\t"},
		{name: "a token of 16 KiB", raw: json200(`{"access_token":"` + long + `","refresh_token":"x` + long + `"}`), access: long, refresh: "x" + long},
		{name: "blanks up to the limit", raw: json200(big[:maxBody-len(goodBody)] + goodBody), access: "access-2", refresh: "refresh-2"},
		{name: "something behind the object", raw: json200(goodBody + `{"error":"x"} rubbish`), access: "access-2", refresh: "refresh-2"},
		{name: "cut behind the object", raw: head("200", "Content-Length: 5000") + goodBody, access: "access-2", refresh: "refresh-2"},
		{name: "chunked", raw: chunks + chunked(goodBody, 7) + "0\r\n\r\n", access: "access-2", refresh: "refresh-2"},
		{name: "chunks of one byte", raw: chunks + chunked(goodBody, 1) + "0\r\n\r\n", access: "access-2", refresh: "refresh-2"},
		{name: "chunks without an end", raw: chunks + chunked(goodBody, 50), access: "access-2", refresh: "refresh-2"},
		{name: "informational answers before", raw: strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", 4) + "HTTP/1.1 100 Continue\r\n\r\n" + json200(goodBody), access: "access-2", refresh: "refresh-2"},

		{name: "nothing", raw: "", class: InDoubt, cause: "read answer: unexpected EOF"},
		{name: "cut in the status line", raw: "HTTP/1.1 40", class: InDoubt, cause: "read answer: unexpected EOF"},
		{name: "cut in the fields", raw: "HTTP/1.1 400 Bad\r\nContent-Le", class: InDoubt, cause: "read answer: unexpected EOF"},
		{name: "only informational answers", raw: strings.Repeat("HTTP/1.1 102 x\r\n\r\n", 6) + json200(goodBody), class: InDoubt, cause: "read answer: not an HTTP answer"},
		{name: "no HTTP", raw: "SSH-2.0-OpenSSH_9.6\r\n\r\n", class: InDoubt, cause: "read answer: not an HTTP answer"},
		{name: "a flood of fields", raw: "HTTP/1.1 200 OK\r\n" + strings.Repeat("X-A: b\r\n", 10000), class: InDoubt, cause: "read answer: answer is too long"},
		{name: "a flood in one field", raw: "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("y", maxHead), class: InDoubt, cause: "read answer: answer is too long"},
		{name: "another protocol", raw: head("101", "Upgrade: x") + goodBody, class: InDoubt, status: 101},

		{name: "200 cut in the object", raw: head("200", "Content-Length: 5000") + goodBody[:len(goodBody)-1], class: InDoubt, status: 200, cause: "unexpected EOF"},
		{name: "200 that ends in the object", raw: json200(goodBody[:len(goodBody)-1]), class: InDoubt, status: 200, cause: "body is not a JSON object"},
		{name: "200 cut in a chunk", raw: chunks + "400\r\n" + goodBody[:30], class: InDoubt, status: 200, cause: "unexpected EOF"},
		{name: "200 with broken chunks", raw: chunks + "zz\r\n" + goodBody, class: InDoubt, status: 200, cause: "body is not a JSON object"},
		{name: "200 too long", raw: json200(big + goodBody), class: InDoubt, status: 200, cause: "answer is too long"},
		{name: "200 too long in chunks", raw: chunks + chunked(big+goodBody, 4096) + "0\r\n\r\n", class: InDoubt, status: 200, cause: "answer is too long"},
		{name: "200 without content", raw: json200(""), class: InDoubt, status: 200, cause: "body is not a JSON object"},
		{name: "204", raw: head("204"), class: InDoubt, status: 204, cause: "body is not a JSON object"},
		{name: "200 with a page", raw: json200("<html>"), class: InDoubt, status: 200, cause: "body is not a JSON object"},
		{name: "200 with a form", raw: json200("access_token=a&refresh_token=b"), class: InDoubt, status: 200, cause: "body is not a JSON object"},
		{name: "200 with a list", raw: json200("[" + goodBody + "]"), class: InDoubt, status: 200, cause: "body is not a JSON object"},
		{name: "200 with null", raw: json200("null"), class: InDoubt, status: 200, cause: "body is not a JSON object"},
		{name: "200 without access token", raw: json200(`{"refresh_token":"b"}`), class: InDoubt, status: 200, cause: "access_token is missing"},
		{name: "200 with an access token of another case", raw: json200(`{"Access_Token":"a"}`), class: InDoubt, status: 200, cause: "access_token is missing"},
		{name: "200 with an empty access token", raw: json200(`{"access_token":""}`), class: InDoubt, status: 200, cause: "access_token is missing"},
		{name: "200 with a number for an access token", raw: json200(`{"access_token":7}`), class: InDoubt, status: 200, cause: "access_token cannot be read"},
		{name: "200 with CR", raw: json200(`{"access_token":"a\rb"}`), class: InDoubt, status: 200, cause: "access_token cannot be read"},
		{name: "200 with LF", raw: json200(`{"access_token":"a","refresh_token":"a\nb"}`), class: InDoubt, status: 200, cause: "refresh_token cannot be read"},
		{name: "200 with NUL", raw: json200(`{"access_token":"a\u0000b"}`), class: InDoubt, status: 200, cause: "access_token cannot be read"},
		{name: "200 with bytes that JSON cannot carry", raw: json200("{\"access_token\":\"a\xffb\"}"), class: InDoubt, status: 200, cause: "access_token cannot be read"},
		{name: "200 with half a character", raw: json200(`{"access_token":"a","refresh_token":"a\ud800"}`), class: InDoubt, status: 200, cause: "refresh_token cannot be read"},
		{name: "200 with an error", raw: json200(`{"error":"invalid_grant",` + goodBody[1:]), class: InDoubt, status: 200, code: "invalid_grant"},
		{name: "200 with an error of a client", raw: json200(`{"error":"invalid_client"}`), class: InDoubt, status: 200, code: "invalid_client"},
		{name: "200 with an odd error", raw: json200(`{"error":{"code":1},` + goodBody[1:]), class: InDoubt, status: 200, cause: "body holds an error"},

		{name: "400", raw: head("400") + `{"error":"invalid_grant"}`, class: Refused, status: 400, code: "invalid_grant"},
		{name: "400 with a pair", raw: head("400") + goodBody, class: Refused, status: 400},
		{name: "400 of another dialect", raw: head("400") + `{"error":"invalid_refresh_token"}`, class: Refused, status: 400, code: "invalid_refresh_token"},
		{name: "400 invalid_client", raw: head("400") + `{"error":"invalid_client"}`, class: ClientRefused, status: 400, code: "invalid_client"},
		{name: "403 unauthorized_client", raw: head("403") + `{"error":"unauthorized_client"}`, class: ClientRefused, status: 403, code: "unauthorized_client"},
		{name: "400 that only mentions invalid_client", raw: head("400") + `{"error":"not_invalid_client"}`, class: Refused, status: 400, code: "not_invalid_client"},
		{name: "401 with a page", raw: head("401") + `<html>`, class: ClientRefused, status: 401},
		{name: "403 with a page", raw: head("403") + `<html>`, class: Refused, status: 403},
		{name: "403 cut", raw: head("403", "Content-Length: 500") + `{"err`, class: Refused, status: 403},
		{name: "code in capitals", raw: head("400") + `{"error":"INVALID"}`, class: Refused, status: 400},
		{name: "code too long", raw: head("400") + `{"error":"` + strings.Repeat("a", 41) + `"}`, class: Refused, status: 400},
		{name: "code in two lines", raw: head("400") + `{"error":"invalid_grant\n"}`, class: Refused, status: 400},
		{name: "429", raw: head("429") + `{"error":"slow_down"}`, class: InDoubt, status: 429, code: "slow_down"},
		{name: "503 with an error of a client", raw: head("503") + `{"error":"invalid_client"}`, class: InDoubt, status: 503, code: "invalid_client"},
		{name: "502 with a pair", raw: head("502") + goodBody, class: InDoubt, status: 502},
		{name: "304", raw: head("304"), class: InDoubt, status: 304},
	} {
		t.Run(test.name, func(t *testing.T) {
			token, err := refreshOnce(t.Context(), newTestEndpoint(t, pipeTo(t, answering(test.raw))), testRefresh)
			if got := token.Access().Reveal(); got != test.access {
				t.Errorf("access token = %q, want %q", got, test.access)
			}
			if got := token.Refresh().Reveal(); got != test.refresh {
				t.Errorf("refresh token = %q, want %q", got, test.refresh)
			}
			if test.class == 0 {
				if err != nil {
					t.Error(err)
				}
				return
			}
			e := wantClass(t, err, test.class)
			if e.Status != test.status || e.Code != test.code {
				t.Errorf("status %d, code %q; want %d, %q", e.Status, e.Code, test.status, test.code)
			}
			if test.cause != "" && (e.Cause == nil || e.Cause.Error() != test.cause) {
				t.Errorf("cause = %v, want %s", e.Cause, test.cause)
			}
			if e.Cause != nil && test.status != 0 && test.status/100 != 2 {
				t.Errorf("cause %v beside a status that says all", e.Cause)
			}
		})
	}
}

// chunked is s in chunks of n bytes, without the last chunk.
func chunked(s string, n int) string {
	var b strings.Builder
	for ; s != ""; s = s[min(n, len(s)):] {
		part := s[:min(n, len(s))]
		fmt.Fprintf(&b, "%x\r\n%s\r\n", len(part), part)
	}
	return b.String()
}

func TestUnbelievableExpiresInIsFifteenMinutesAndAWarning(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for _, test := range []struct {
		member string
		life   time.Duration
		warned bool
	}{
		{`"expires_in":900`, 900 * time.Second, false},
		{`"expires_in":1`, time.Second, false},
		{`"expires_in":3599.5`, 3599500 * time.Millisecond, false},
		{`"expires_in":3.6e3`, time.Hour, false},
		{`"expires_in":"3600"`, time.Hour, false},
		{`"expires_in":" 60.0 "`, time.Minute, false},
		{`"expires_in":31536000`, year, false},
		{`"expires_in":31536001`, assumedLife, true},
		{`"expires_in":0`, assumedLife, true},
		{`"expires_in":0.5`, assumedLife, true},
		{`"expires_in":-1`, assumedLife, true},
		{`"expires_in":"-900"`, assumedLife, true},
		{`"expires_in":1e300`, assumedLife, true},
		{`"expires_in":1e999`, assumedLife, true},
		{`"expires_in":"1e999"`, assumedLife, true},
		{`"expires_in":"NaN"`, assumedLife, true},
		{`"expires_in":"Inf"`, assumedLife, true},
		{`"expires_in":"0x10"`, assumedLife, true},
		{`"expires_in":"15m"`, assumedLife, true},
		{`"expires_in":""`, assumedLife, true},
		{`"expires_in":null`, assumedLife, true},
		{`"expires_in":true`, assumedLife, true},
		{`"expires_in":[900]`, assumedLife, true},
		{`"expires_in":1767225600000`, assumedLife, true},
		{`"Expires_In":60`, assumedLife, true},
		{`"x":1`, assumedLife, true},
	} {
		var log bytes.Buffer
		e := newTestEndpoint(t, pipeTo(t, answering(json200(`{"access_token":"a","refresh_token":"b",`+test.member+`}`))),
			func(o *EndpointOptions) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
		token, err := refreshOnce(t.Context(), e, testRefresh)
		if err != nil {
			t.Errorf("%s: %v", test.member, err)
		}
		if got := token.End().Sub(token.Issued()); got != test.life {
			t.Errorf("%s: life %v, want %v", test.member, got, test.life)
		}
		if warned := strings.Contains(log.String(), "level=WARN"); warned != test.warned {
			t.Errorf("%s: warned = %t: %s", test.member, warned, &log)
		}
	}
}

func TestOddAnswersAreWarnedOf(t *testing.T) {
	for body, want := range map[string]string{
		`{"access_token":"a","expires_in":60}`:                                                `msg="token answer without refresh token"`,
		`{"access_token":"a","expires_in":60,"refresh_token":"b","token_type":"mac"}`:         `msg="token answer of a type other than bearer"`,
		`{"access_token":"a","expires_in":60,"refresh_token":"b","token_type":"BeaRer"}`:      "",
		`{"access_token":"a","expires_in":60,"refresh_token":"b","token_type":null,"x":{}}`:   "",
		`{"access_token":"a","expires_in":60,"refresh_token":"b","scope":["no","string"]}`:    "",
		`{"access_token":"a","expires_in":60,"refresh_token":"b","id_token":"x","sub":"urn"}`: "",
	} {
		var log bytes.Buffer
		e := newTestEndpoint(t, pipeTo(t, answering(json200(body))),
			func(o *EndpointOptions) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
		if _, err := refreshOnce(t.Context(), e, testRefresh); err != nil {
			t.Error(err)
		}
		if !strings.Contains(log.String(), want) || want == "" && log.Len() > 0 {
			t.Errorf("%s: log %q, want %q", body, &log, want)
		}
	}
}

func TestRetryAfterIsBounded(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(d time.Duration) string { return now.Add(d).Format(http.TimeFormat) }
	for _, test := range []struct {
		value, date string
		want        time.Duration
	}{
		{"", "", 0},
		{"0", "", 0},
		{"30", "", 30 * time.Second},
		{" 30 ", "", 30 * time.Second},
		{"3600", "", time.Hour},
		{"3601", "", time.Hour},
		{"99999999999999999999999", "", time.Hour},
		{"-5", "", 0},
		{"1.5", "", 0},
		{"soon", "", 0},
		{at(time.Minute), "", time.Minute},
		{at(time.Minute), at(20 * time.Second), 40 * time.Second},
		{at(time.Minute), at(-30 * time.Minute), 31 * time.Minute},
		{at(time.Minute), "garbage", time.Minute},
		{at(-time.Minute), "", 0},
		{at(48 * time.Hour), "", time.Hour},
	} {
		h := http.Header{"Retry-After": {test.value}, "Date": {test.date}}
		if got := retryAfter(h, now); got != test.want {
			t.Errorf("Retry-After %q at Date %q = %v, want %v", test.value, test.date, got, test.want)
		}
	}
}

func TestErrorsCarryRetryAfter(t *testing.T) {
	for _, status := range []string{"429", "503", "400"} {
		e := newTestEndpoint(t, pipeTo(t, answering(head(status, "Retry-After: 7"))))
		_, err := refreshOnce(t.Context(), e, testRefresh)
		var got *EndpointError
		if !errors.As(err, &got) || got.RetryAfter != 7*time.Second {
			t.Errorf("%s: %#v", status, got)
		}
	}
}

// cannedConn takes every request and answers data.
type cannedConn struct {
	net.Conn
	answer io.Reader
}

func (c cannedConn) Read(p []byte) (int, error)  { return c.answer.Read(p) }
func (cannedConn) Write(p []byte) (int, error)   { return len(p), nil }
func (cannedConn) Close() error                  { return nil }
func (cannedConn) SetDeadline(_ time.Time) error { return nil }

func FuzzAnswer(f *testing.F) {
	f.Add([]byte(json200(goodBody)))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(goodBody, 9) + "0\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 100 x\r\n\r\n" + head("429", "Retry-After: Wed, 21 Oct 2015 07:28:00 GMT") + `{"error":"x"}`))
	f.Add([]byte(json200(`{"access_token":"\ud800","expires_in":"1e3","token_type":7}`)))
	f.Add([]byte(json200(`{"active":true}`)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c := newCall(target{}, newWire(cannedConn{answer: bytes.NewReader(raw)}), cannedConn{answer: bytes.NewReader(raw)})
		c.issued, c.secrets = time.Now(), []Secret{NewSecret(testRefresh)}
		a, err := c.answer(t.Context())
		if err != nil {
			wantEndpointError(t, err)
			return
		}
		token, err := a.token(slog.New(slog.DiscardHandler))
		if err != nil {
			wantEndpointError(t, err)
			if !token.IsZero() {
				t.Error("both a token and an error")
			}
		} else {
			wantUsable(t, token)
		}
		if active, err := a.active(); err != nil && active {
			t.Error("both active and an error")
		}
	})
}

func wantEndpointError(t *testing.T, err error) {
	t.Helper()
	var e *EndpointError
	if !errors.As(err, &e) || e.Class < InDoubt || e.Class > ClientRefused || e.Status == 0 && e.Cause == nil {
		t.Errorf("error %#v is none of ours, or unsent", err)
	}
	if strings.Contains(err.Error(), testRefresh) {
		t.Errorf("error %v shows a secret", err)
	}
}

func wantUsable(t *testing.T, token Token) {
	t.Helper()
	access, life := token.Access().Reveal(), token.End().Sub(token.Issued())
	if access == "" || strings.ContainsAny(access+token.Refresh().Reveal(), "\r\n\x00") {
		t.Errorf("token %q cannot be sent", access)
	}
	if life < minLife || life > maxLife {
		t.Errorf("token lives for %v", life)
	}
}
