package tokens

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pleo-sidecar/tokens/pleosim"
)

// The secrets of these tests look like error codes, so that an echo of one is
// the hardest to tell from a code.
const (
	testID      = "client-1"
	testSecret  = "canary_client_secret"
	testRefresh = "canary_refresh_token"
)

type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// pipeTo dials pipes whose other ends are served, and waits for the servers.
func pipeTo(t *testing.T, serve func(net.Conn)) dialFunc {
	var serving sync.WaitGroup
	t.Cleanup(serving.Wait)
	return func(context.Context, string, string) (net.Conn, error) {
		here, there := net.Pipe()
		serving.Go(func() {
			defer func() { _ = there.Close() }()
			serve(there)
		})
		return here, nil
	}
}

// answering reads one request, gives its bytes to each of seen, and answers raw.
func answering(raw string, seen ...func(string)) func(net.Conn) {
	return func(conn net.Conn) {
		request, err := readRequest(conn)
		if err != nil {
			return
		}
		for _, see := range seen {
			see(request)
		}
		_, _ = io.WriteString(conn, raw)
	}
}

// readRequest returns the exact bytes of one request.
func readRequest(conn io.Reader) (string, error) {
	var raw strings.Builder
	r, err := http.ReadRequest(bufio.NewReader(io.TeeReader(conn, &raw)))
	if err != nil {
		return "", err
	}
	_, err = io.Copy(io.Discard, r.Body)
	return raw.String(), err
}

// json200 is an answer with a body of known length.
func json200(body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

const goodBody = `{"access_token":"access-2","refresh_token":"refresh-2","expires_in":900,"scope":"a:read b:write"}`

func newTestEndpoint(t *testing.T, dial dialFunc, change ...func(*EndpointOptions)) *Endpoint {
	t.Helper()
	o := EndpointOptions{
		TokenURL:         "http://127.0.0.1:9080/oauth/token",
		IntrospectionURL: "http://127.0.0.1:9080/oauth/token/introspect",
		RedirectURL:      "http://localhost:8080/callback",
		ClientID:         testID,
		ClientSecret:     NewSecret(testSecret),
		Dial:             dial,
	}
	for _, c := range change {
		c(&o)
	}
	e, err := NewEndpoint(o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// refreshOnce does what the protocol does with a TokenRequest.
func refreshOnce(ctx context.Context, e *Endpoint, refresh string) (Token, error) {
	r, err := e.Connect(ctx)
	if err != nil {
		return Token{}, err
	}
	defer func() { _ = r.Close() }()
	if err := r.Send(ctx, NewSecret(refresh)); err != nil {
		return Token{}, err
	}
	return r.Answer(ctx)
}

func wantClass(t *testing.T, err error, want Class) *EndpointError {
	t.Helper()
	var e *EndpointError
	if !errors.As(err, &e) {
		t.Fatalf("error %v is no *EndpointError", err)
	}
	if e.Class != want {
		t.Errorf("class of %q = %s, want %s", err, e.Class, want)
	}
	return e
}

func TestRequestsAreByteExact(t *testing.T) {
	basic := "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("id%+ /:sec%:+ret")) + "\r\n"
	request := func(path, auth, body string) string {
		return "POST " + path + " HTTP/1.1\r\nHost: 127.0.0.1:9080\r\nUser-Agent: pleo-sidecar/1.2.3\r\nConnection: close\r\n" +
			fmt.Sprintf("Content-Length: %d\r\n", len(body)) +
			"Accept: application/json\r\nAccept-Encoding: identity\r\n" + auth +
			"Content-Type: application/x-www-form-urlencoded\r\n\r\n" + body
	}
	refresh := func(e *Endpoint) error {
		_, err := refreshOnce(t.Context(), e, "r+/=& %\xff")
		return err
	}
	exchange := func(e *Endpoint) error {
		_, err := e.Exchange(t.Context(), NewSecret("c&d"), NewSecret("v~f"))
		return err
	}
	introspect := func(e *Endpoint) error {
		_, err := e.Introspect(t.Context(), NewSecret("r+/"))
		return err
	}
	const post = "client_id=id%25%2B+%2F&client_secret=sec%25%3A%2Bret"
	const redirect = "&redirect_uri=http%3A%2F%2Flocalhost%3A8080%2Fcallback"
	for _, test := range []struct {
		name string
		auth ClientAuth
		do   func(*Endpoint) error
		want string
	}{
		{"refresh, basic", "", refresh, request("/oauth/token?a=b", basic, "grant_type=refresh_token&refresh_token=r%2B%2F%3D%26+%25%FF")},
		{"refresh, post", ClientAuthPost, refresh, request("/oauth/token?a=b", "", post+"&grant_type=refresh_token&refresh_token=r%2B%2F%3D%26+%25%FF")},
		{"exchange, basic", ClientAuthBasic, exchange, request("/oauth/token?a=b", basic, "code=c%26d&code_verifier=v~f&grant_type=authorization_code"+redirect)},
		{"exchange, post", ClientAuthPost, exchange, request("/oauth/token?a=b", "", post+"&code=c%26d&code_verifier=v~f&grant_type=authorization_code"+redirect)},
		{"introspect, basic", ClientAuthBasic, introspect, request("/oauth/token/introspect", basic, "token=r%2B%2F&token_type_hint=refresh_token")},
		{"introspect, always basic", ClientAuthPost, introspect, request("/oauth/token/introspect", basic, "token=r%2B%2F&token_type_hint=refresh_token")},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got string
			body := `{"active":true,` + goodBody[1:]
			e := newTestEndpoint(t, pipeTo(t, answering(json200(body), func(s string) { got = s })), func(o *EndpointOptions) {
				o.TokenURL += "?a=b"
				o.ClientID, o.ClientSecret, o.ClientAuth = "id%+ /", NewSecret("sec%:+ret"), test.auth
				o.Version = "1.2.3"
			})
			if err := test.do(e); err != nil {
				t.Fatal(err)
			}
			if got != test.want {
				t.Errorf("request\n%q\nwant\n%q", got, test.want)
			}
		})
	}
}

func TestRefreshReturnsThePair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newTestEndpoint(t, pipeTo(t, func(conn net.Conn) {
			if _, err := readRequest(conn); err != nil {
				return
			}
			time.Sleep(10 * time.Second)
			_, _ = io.WriteString(conn, json200(goodBody))
		}))
		r, err := e.Connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		sent := time.Now().Round(0)
		if err := r.Send(t.Context(), NewSecret(testRefresh)); err != nil {
			t.Fatal(err)
		}
		token, err := r.Answer(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if token.Access().Reveal() != "access-2" || token.Refresh().Reveal() != "refresh-2" || token.Scope() != "a:read b:write" {
			t.Errorf("pair = %q, %q, scope %q", token.Access().Reveal(), token.Refresh().Reveal(), token.Scope())
		}
		if token.Issued() != sent || token.End() != sent.Add(900*time.Second) {
			t.Errorf("issued %v, ends %v; want counted from before sending, %v", token.Issued(), token.End(), sent)
		}
		if err := errors.Join(r.Close(), r.Close()); err != nil {
			t.Errorf("close twice: %v", err)
		}
	})
}

func TestSecondSendWritesNothing(t *testing.T) {
	requests := 0
	e := newTestEndpoint(t, pipeTo(t, func(conn net.Conn) {
		for {
			if _, err := readRequest(conn); err != nil {
				return
			}
			requests++
			_, _ = io.WriteString(conn, json200(goodBody))
		}
	}))
	r, err := e.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Send(t.Context(), NewSecret(testRefresh)); err != nil {
		t.Fatal(err)
	}
	out := r.call.wire.out.Load()
	wantClass(t, r.Send(t.Context(), NewSecret(testRefresh)), Unsent)
	if got := r.call.wire.out.Load(); got != out {
		t.Errorf("the second Send wrote %d bytes", got-out)
	}
	if _, err := r.Answer(t.Context()); err != nil {
		t.Errorf("the first request lost its answer: %v", err)
	}
	_ = r.Close()
	if requests != 1 {
		t.Errorf("%d requests, want 1", requests)
	}
}

func TestAnswerWithoutSendIsUnsent(t *testing.T) {
	e := newTestEndpoint(t, pipeTo(t, func(conn net.Conn) { _, _ = readRequest(conn) }))
	r, err := e.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	_, err = r.Answer(t.Context())
	wantClass(t, err, Unsent)
}

func TestEveryFailureIsOneRequest(t *testing.T) {
	for _, status := range []string{"301", "307", "308", "401", "403", "408", "421", "425", "429", "500", "502", "503", "504"} {
		connections, requests := 0, 0
		e := newTestEndpoint(t, pipeTo(t, func(conn net.Conn) {
			connections++
			for {
				if _, err := readRequest(conn); err != nil {
					return
				}
				requests++
				_, _ = io.WriteString(conn, "HTTP/1.1 "+status+" x\r\nLocation: /elsewhere\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n")
			}
		}))
		_, err := refreshOnce(t.Context(), e, testRefresh)
		if err == nil || connections != 1 || requests != 1 {
			t.Errorf("%s: %d connections, %d requests, error %v; want one of each", status, connections, requests, err)
		}
	}
}

func TestRedirectTargetSeesNothing(t *testing.T) {
	elsewhere, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	visits := make(chan struct{}, 1)
	go func() {
		if conn, err := elsewhere.Accept(); err == nil {
			_ = conn.Close()
			visits <- struct{}{}
		}
		close(visits)
	}()
	for _, status := range []string{"301", "302", "303", "307", "308"} {
		raw := "HTTP/1.1 " + status + " x\r\nLocation: http://" + elsewhere.Addr().String() + "/\r\nContent-Length: 0\r\n\r\n"
		pipe, calls := pipeTo(t, answering(raw)), 0
		e := newTestEndpoint(t, func(ctx context.Context, network, address string) (net.Conn, error) {
			if calls++; calls == 1 {
				return pipe(ctx, network, address)
			}
			return new(net.Dialer).DialContext(ctx, network, address)
		})
		_, err := refreshOnce(t.Context(), e, testRefresh)
		if got := wantClass(t, err, InDoubt); got.Status/100 != 3 {
			t.Errorf("status = %d, want %s", got.Status, status)
		}
		if calls != 1 {
			t.Errorf("%s: dialed %d times", status, calls)
		}
	}
	_ = elsewhere.Close()
	if _, visited := <-visits; visited {
		t.Error("the redirect's target was visited")
	}
}

func TestNewEndpointNamesEveryMistake(t *testing.T) {
	good := EndpointOptions{TokenURL: "https://auth.example/oauth/token", ClientID: testID, ClientSecret: NewSecret(testSecret)}
	for _, test := range []struct {
		name   string
		change func(*EndpointOptions)
		want   string
	}{
		{"plain http", func(o *EndpointOptions) { o.TokenURL = "http://auth.example/" }, "token URL: must be https; http goes to the loopback only"},
		{"plain http to a name that only begins like the loopback", func(o *EndpointOptions) { o.TokenURL = "http://localhost.example/" }, "token URL: must be https; http goes to the loopback only"},
		{"no URL", func(o *EndpointOptions) { o.TokenURL = "https://u:canary_password@a:b" }, "token URL: not a URL"},
		{"empty", func(o *EndpointOptions) { o.TokenURL = "" }, "token URL: scheme must be https or http"},
		{"no host", func(o *EndpointOptions) { o.TokenURL = "https:///oauth" }, "token URL: must name a host"},
		{"other scheme", func(o *EndpointOptions) { o.TokenURL = "ftp://auth.example/" }, "token URL: scheme must be https or http"},
		{"user info", func(o *EndpointOptions) { o.TokenURL = "https://u:canary_password@auth.example/" }, "token URL: must not contain user info"},
		{"fragment", func(o *EndpointOptions) { o.TokenURL += "#canary_password" }, "token URL: must not contain a fragment"},
		{"empty fragment", func(o *EndpointOptions) { o.TokenURL += "#" }, "token URL: must not contain a fragment"},
		{"name not in ASCII", func(o *EndpointOptions) { o.TokenURL = "https://ünused.example/" }, "token URL: host must be ASCII"},
		{"introspection", func(o *EndpointOptions) { o.IntrospectionURL = "http://192.0.2.1/" }, "introspection URL: must be https; http goes to the loopback only"},
		{"no id", func(o *EndpointOptions) { o.ClientID = "" }, "client id: must not be empty"},
		{"no secret", func(o *EndpointOptions) { o.ClientSecret = Secret{} }, "client secret: must not be empty"},
		{"colon in the id", func(o *EndpointOptions) { o.ClientID = "a:b" }, "client id: must not contain a colon"},
		{"colon in the id, introspection", func(o *EndpointOptions) {
			o.ClientID, o.ClientAuth, o.IntrospectionURL = "a:b", ClientAuthPost, o.TokenURL
		}, "client id: must not contain a colon"},
		{"auth", func(o *EndpointOptions) { o.ClientAuth = "jwt" }, `client auth "jwt": must be basic or post`},
		{"three at once", func(o *EndpointOptions) { o.TokenURL, o.IntrospectionURL, o.ClientID = "", "x", "" },
			"token URL: scheme must be https or http\nintrospection URL: scheme must be https or http\nclient id: must not be empty"},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := good
			test.change(&o)
			e, err := NewEndpoint(o)
			if err == nil || err.Error() != test.want || e != nil {
				t.Errorf("NewEndpoint = %v, %q; want %q", e, err, test.want)
			}
		})
	}
	for _, u := range []string{"http://localhost/", "http://LOCALHOST.:1/", "http://127.1.2.3/", "http://[::1]:1/", "https://[2001:db8::1]/", "https://auth.example:8443/t?x=y"} {
		o := good
		o.TokenURL = u
		if _, err := NewEndpoint(o); err != nil {
			t.Errorf("NewEndpoint with %s: %v", u, err)
		}
	}
}

func TestClientFingerprintTellsIDFromSecret(t *testing.T) {
	of := func(id, secret string) Fingerprint {
		e, err := NewEndpoint(EndpointOptions{TokenURL: "https://a", ClientID: id, ClientSecret: NewSecret(secret)})
		if err != nil {
			t.Fatal(err)
		}
		return e.Client()
	}
	if one, again := of("ab", "c"), of("ab", "c"); one != again {
		t.Error("the same client has two fingerprints")
	}
	seen := map[Fingerprint]string{}
	for _, c := range [][2]string{{"ab", "c"}, {"a", "bc"}, {"ab", "d"}, {"bb", "c"}, {"a", "1:b"}, {"a1", ":b"}} {
		if is, ok := seen[of(c[0], c[1])]; ok {
			t.Errorf("%v and %s share a fingerprint", c, is)
		}
		seen[of(c[0], c[1])] = fmt.Sprint(c)
	}
}

func TestIntrospectReadsActiveAndNothingElse(t *testing.T) {
	for _, test := range []struct {
		name, raw string
		active    bool
		class     Class
	}{
		{"active", json200(`{"active":true}`), true, 0},
		{"inactive", json200(`{"active":false,"exp":9999999999}`), false, 0},
		{"only exp", json200(`{"exp":9999999999}`), false, InDoubt},
		{"another case", json200(`{"active":false,"Active":true}`), false, 0},
		{"null", json200(`{"active":null}`), false, InDoubt},
		{"a string", json200(`{"active":"true"}`), false, InDoubt},
		{"error beside it", json200(`{"active":true,"error":"server_error"}`), false, InDoubt},
		{"a page", json200(`<html>`), false, InDoubt},
		{"nothing", "", false, InDoubt},
		{"500", "HTTP/1.1 500 x\r\nContent-Length: 15\r\n\r\n{\"active\":true}", false, InDoubt},
		{"302", "HTTP/1.1 302 x\r\nContent-Length: 15\r\n\r\n{\"active\":true}", false, InDoubt},
		{"403", "HTTP/1.1 403 x\r\nContent-Length: 15\r\n\r\n{\"active\":true}", false, Refused},
		{"401", "HTTP/1.1 401 x\r\nContent-Length: 0\r\n\r\n", false, ClientRefused},
		{"400 invalid_client", "HTTP/1.1 400 x\r\nContent-Length: 26\r\n\r\n{\"error\":\"invalid_client\"}", false, ClientRefused},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := newTestEndpoint(t, pipeTo(t, answering(test.raw)))
			active, err := e.Introspect(t.Context(), NewSecret(testRefresh))
			if active != test.active {
				t.Errorf("active = %t", active)
			}
			if test.class != 0 {
				wantClass(t, err, test.class)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestWhatIsNotConfiguredSendsNothing(t *testing.T) {
	dial := func(context.Context, string, string) (net.Conn, error) {
		t.Error("dialed")
		return nil, errors.New("no")
	}
	e := newTestEndpoint(t, dial, func(o *EndpointOptions) { o.IntrospectionURL, o.RedirectURL = "", "" })
	if e.Introspects() {
		t.Error("introspects without a URL")
	}
	_, err := e.Introspect(t.Context(), NewSecret(testRefresh))
	wantClass(t, err, Unsent)
	_, err = e.Exchange(t.Context(), NewSecret("code"), NewSecret("verifier"))
	wantClass(t, err, Unsent)
}

// TestNoSecretInErrorsOrLogs lets servers echo what they were sent in every
// place of an answer.
func TestNoSecretInErrorsOrLogs(t *testing.T) {
	body := func(status, s string) string {
		return fmt.Sprintf("HTTP/1.1 %s x\r\nContent-Length: %d\r\n\r\n%s", status, len(s), s)
	}
	for _, secret := range []string{testRefresh, testSecret} {
		for name, raw := range map[string]string{
			"status line":       secret + "\r\n\r\n",
			"status code":       "HTTP/1.1 " + secret + "\r\n\r\n",
			"reason":            "HTTP/1.1 400 " + secret + "\r\nContent-Length: 0\r\n\r\n",
			"malformed field":   "HTTP/1.1 200 OK\r\n" + secret + "\r\n\r\n",
			"field name":        "HTTP/1.1 200 OK\r\n" + secret + " : x\r\n\r\n",
			"length":            "HTTP/1.1 200 OK\r\nContent-Length: " + secret + "\r\n\r\n",
			"coding":            "HTTP/1.1 200 OK\r\nTransfer-Encoding: " + secret + "\r\n\r\n",
			"chunk":             "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + secret + "\r\n",
			"location":          "HTTP/1.1 307 x\r\nLocation: https://x/?t=" + secret + "\r\nContent-Length: 0\r\n\r\n",
			"retry-after":       "HTTP/1.1 503 x\r\nRetry-After: " + secret + "\r\nContent-Length: 0\r\n\r\n",
			"body":              body("400", secret),
			"code":              body("400", `{"error":"`+secret+`"}`),
			"code in 200":       body("200", `{"error":"`+secret+`"}`),
			"part of it":        body("400", `{"error":"`+secret[:13]+`"}`),
			"part of the code":  body("400", `{"error":"bad_`+secret+`_x"}`),
			"description":       body("400", `{"error":"invalid_grant","error_description":"`+secret+`"}`),
			"token type":        json200(`{"access_token":"a","token_type":"` + secret + `"}`),
			"expires_in":        json200(`{"access_token":"a","expires_in":"` + secret + `"}`),
			"refresh of a type": json200(`{"access_token":"a","refresh_token":["` + secret + `"]}`),
		} {
			t.Run(secret+" in "+name, func(t *testing.T) {
				var log strings.Builder
				e := newTestEndpoint(t, pipeTo(t, answering(raw)), func(o *EndpointOptions) {
					o.ClientAuth = ClientAuthPost
					o.Log = slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
				})
				_, err := refreshOnce(t.Context(), e, testRefresh)
				if err == nil && log.Len() == 0 {
					t.Error("nothing was said at all")
				}
				wantNoSecret(t, log.String())
				wantNoSecret(t, everyForm(err))
				wantNoSecret(t, fmt.Sprintf("%v %+v %#v", e, e, e.options))
			})
		}
	}
}

// everyForm is an error with all its causes under every verb.
func everyForm(err error) string {
	var s strings.Builder
	for ; err != nil; err = errors.Unwrap(err) {
		fmt.Fprintf(&s, "%v %+v %#v %q\n", err, err, err, err)
	}
	return s.String()
}

// wantNoSecret looks for any longer piece of a secret, in the codings in which
// requests carry them.
func wantNoSecret(t *testing.T, text string) {
	t.Helper()
	basic := base64.StdEncoding.EncodeToString([]byte(testID + ":" + testSecret))
	for _, s := range []string{testRefresh[:13], testSecret[:13], "canary_", basic, url.QueryEscape(basic)} {
		if strings.Contains(text, s) {
			t.Errorf("%q shows %q", text, s)
		}
	}
}

func TestEndpointAgainstPleosim(t *testing.T) {
	for _, auth := range []ClientAuth{ClientAuthBasic, ClientAuthPost} {
		t.Run(string(auth), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { againstPleosim(t, auth) })
		})
	}
}

func againstPleosim(t *testing.T, auth ClientAuth) {
	sim := pleosim.New(t, pleosim.Options{ClientAuth: string(auth), Hostile: true, Seed: 7, TokenLength: 16 << 10})
	pipes := sim.Pipes(t)
	e := newTestEndpoint(t, pipes.DialContext, func(o *EndpointOptions) {
		o.ClientID, o.ClientSecret, o.ClientAuth = "pleosim-client", NewSecret("pleosim-secret"), auth
		o.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	})
	first := sim.Grant()
	token, err := refreshOnce(t.Context(), e, first)
	if err != nil {
		t.Fatal(err)
	}
	second := token.Refresh()
	for _, test := range []struct {
		refresh Secret
		want    bool
	}{{NewSecret(first), false}, {second, true}} {
		if active, err := e.Introspect(t.Context(), test.refresh); err != nil || active != test.want {
			t.Errorf("introspect = %t, %v; want %t", active, err, test.want)
		}
	}
	sim.Token.Next(pleosim.AnswerOnly(http.StatusServiceUnavailable), pleosim.CutUnread(), pleosim.ProxyForbids())
	for _, want := range []Class{InDoubt, InDoubt, Refused} {
		_, err := refreshOnce(t.Context(), e, second.Reveal())
		wantClass(t, err, want)
	}
	sim.Token.Next(pleosim.LoseAnswer())
	_, err = refreshOnce(t.Context(), e, second.Reveal())
	wantClass(t, err, InDoubt)
	if active, err := e.Introspect(t.Context(), second); err != nil || active {
		t.Errorf("after a lost answer: introspect = %t, %v", active, err)
	}
	sim.SetClientSecret("another")
	_, err = e.Introspect(t.Context(), second)
	wantClass(t, err, ClientRefused)
}
