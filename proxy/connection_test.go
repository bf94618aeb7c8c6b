package proxy

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"path"
	"strings"
	"testing"

	"pleo-sidecar/tokens"
)

func TestPathsLeadWhereTheySay(t *testing.T) {
	long := strings.Repeat("a", 63)
	for _, c := range []struct{ name, path, connection, rest string }{
		{"default", "/v1/x", "", "/v1/x"},
		{"root", "/", "", "/"},
		{"connection", "/@acme/v1/x", "acme", "/v1/x"},
		{"connection alone", "/@acme", "acme", "/"},
		{"connection with slash", "/@acme/", "acme", "/"},
		{"shortest name", "/@a/x", "a", "/x"},
		{"longest name", "/@" + long + "/x", long, "/x"},
		{"inner marks", "/@a-b_1/x", "a-b_1", "/x"},
		{"escapes after the name", "/@acme/%2f%40b", "acme", "/%2f%40b"},
		{"dots after the name", "/@acme/../@b/x", "acme", "/../@b/x"},
		{"ours under a connection", "/@acme/-/x", "acme", "/-/x"},
		{"at sign later", "/v1/@acme", "", "/v1/@acme"},
		{"at sign inside", "/a@acme/x", "", "/a@acme/x"},
		{"dash name", "/-x/y", "", "/-x/y"},
		{"decoded twice", "/%2540acme/x", "", "/%2540acme/x"},
		{"dots", "/v1/../v2/./x", "", "/v1/../v2/./x"},
		{"illegal bytes", "/v1/{a%2Fb}|\"", "", "/v1/%7Ba%2Fb%7D%7C%22"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := route(mustParse(t, c.path))
			if want := (target{connection: c.connection, path: c.rest}); err != nil || got != want {
				t.Errorf("%s leads to %+v, %v; want %+v", c.path, got, err, want)
			}
		})
	}
}

func TestDisguisedPathsAreRefused(t *testing.T) {
	for name, path := range map[string]string{
		"escaped at sign":        "/%40acme/v1/x",
		"escaped, illegal byte":  "/%40acme/v1/{x",
		"capital":                "/@Acme/v1/x",
		"empty name":             "/@/v1/x",
		"only an at sign":        "/@",
		"escaped slash":          "/@acme%2fv1",
		"escaped dots":           "/@acme%2f../x",
		"escaped letter":         "/@%61cme/x",
		"over-long":              "/@" + strings.Repeat("a", 64) + "/x",
		"ends in a mark":         "/@acme-/x",
		"begins with a mark":     "/@-acme/x",
		"dot in the name":        "/@ac.me/x",
		"parameter":              "/@acme;a=b/x",
		"dots as name":           "/@../x",
		"two at signs":           "/@@acme/x",
		"two slashes":            "//@acme/x",
		"dot before":             "/./@acme/x",
		"dots before":            "/v1/../@acme/x",
		"escaped dots before":    "/v1/%2e%2e/@acme/x",
		"escaped slashes before": "/v1%2f..%2f@acme/x",
		"escaped dash":           "/%2d/connections",
		"two slashes and ours":   "//-/connections",
		"dots before ours":       "/v1/../-/connections",
		"asterisk":               "*",
		"opaque":                 "http:v1/x",
	} {
		t.Run(name, func(t *testing.T) {
			got, err := route(mustParse(t, path))
			var refused *refusal
			if !errors.As(err, &refused) || refused.slug != slugBadRequest {
				t.Errorf("%s leads to %+v, %v", path, got, err)
			}
		})
	}
}

func TestOwnPathsAreOurs(t *testing.T) {
	for _, path := range []string{"/-", "/-/", "/-/connections", "/-/%2e%2e/v1/x", "/-/../v1/x"} {
		if got, err := route(mustParse(t, path)); err != nil || !got.own {
			t.Errorf("%s leads to %+v, %v", path, got, err)
		}
	}
}

// FuzzRoute cuts any path that a server accepts. Whoever decodes and cleans what
// goes to the default connection must find no prefix of ours; what is cut must be
// the literal prefix and nothing else; and the upstream must get the bytes that
// came, but for those that no URL may hold.
func FuzzRoute(f *testing.F) {
	for _, seed := range []string{
		"/v1/x", "/@acme/v1/x", "/@acme", "/%40acme/{", "//@acme", "/./@a", "/-/x", "/%2d/x", "*",
		"/a/../@b/c", "/v1/%2F%zz", "http://h", "http://h/@acme/%2f", "/@a/\x80\xff|^\"", "/@acme?x", "/#@a",
	} {
		f.Add(seed)
	}
	up := upstream{scheme: "https", host: "up"}
	f.Fuzz(func(t *testing.T, text string) {
		in, err := url.ParseRequestURI(text)
		if err != nil {
			return
		}
		to, err := route(in)
		if err != nil || to.own {
			return
		}
		raw := wirePath(in)
		if to.connection == "" {
			clean := path.Clean(in.Path)
			if strings.HasPrefix(clean, "/@") || clean == "/-" || strings.HasPrefix(clean, "/-/") {
				t.Fatalf("%q is the default connection's", text)
			}
		} else {
			var ok bool
			if raw, ok = strings.CutPrefix(raw, "/@"+to.connection); !ok || !tokens.ValidConnection(to.connection) {
				t.Fatalf("%q is the connection %q", text, to.connection)
			}
			if raw == "" {
				raw = "/"
			}
		}
		if !strings.HasPrefix(raw, "/") || !strings.HasPrefix(to.path, "/") {
			t.Fatalf("%q leads to %q", text, to.path)
		}
		wantSameBytes(t, raw, to.path)
		out, err := up.url(to.path, in)
		if err != nil {
			return // a query that cannot be sent
		}
		if out.EscapedPath() != to.path || out.RawQuery != in.RawQuery || out.Host != up.host {
			t.Fatalf("%q becomes %q", text, out)
		}
		again, err := url.ParseRequestURI(out.RequestURI())
		if err != nil || again.Path != out.Path {
			t.Fatalf("%q is read as %q: %v", out.RequestURI(), again, err)
		}
	})
}

// wantSameBytes checks that sent is came with illegal bytes escaped.
func wantSameBytes(t *testing.T, came, sent string) {
	t.Helper()
	for came != "" {
		if n := 1; sent != "" && came[0] == sent[0] {
			came, sent = came[n:], sent[n:]
			continue
		}
		if decoded, err := url.PathUnescape(sent[:min(3, len(sent))]); err != nil || decoded != came[:1] || legalByte(came[0]) {
			t.Fatalf("came ...%q, sent ...%q", came, sent)
		}
		came, sent = came[1:], sent[3:]
	}
	if sent != "" {
		t.Fatalf("sent more: %q", sent)
	}
}

// mustParse reads path as a server does.
func mustParse(t *testing.T, path string) *url.URL {
	t.Helper()
	if path == "*" {
		return &url.URL{Path: "*"}
	}
	u, err := url.ParseRequestURI(path)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestDisguisesAreRefusedOnTheWire(t *testing.T) {
	up := newFakeUpstream(t, nil)
	s := start(t, up.url, &fakeSource{access: []string{firstAccess}})
	for _, request := range []string{
		"GET /%40acme/v1/x HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"GET //@acme/v1/x HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"GET /%40acme/{ HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"GET http://localhost/%40acme/x HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"GET https://localhost/v1/x HTTP/1.1\r\nHost: localhost\r\n\r\n",
	} {
		wantProblem(t, s.raw(request), slugBadRequest)
	}
	if a := s.raw("GET /v1/%zz HTTP/1.1\r\nHost: localhost\r\n\r\n"); a.StatusCode != http.StatusBadRequest {
		t.Errorf("a broken escape is answered %d", a.StatusCode)
	}
	if n := len(up.arrivals()); n != 0 {
		t.Errorf("%d requests arrived", n)
	}
}

func TestSourceThatIsNotFoundIsNone(t *testing.T) {
	find := Sources(func(_ context.Context, name string) (*fakeSource, error) {
		if name != "acme" {
			return nil, tokens.ErrUnknownConnection
		}
		return &fakeSource{}, nil
	})
	if s, err := find(t.Context(), "other"); s != nil || !errors.Is(err, tokens.ErrUnknownConnection) {
		t.Errorf("got %v, %v", s, err) // a nil pointer in an interface would pass for a source
	}
	if s, err := find(t.Context(), "acme"); s == nil || err != nil {
		t.Errorf("got %v, %v", s, err)
	}
}
