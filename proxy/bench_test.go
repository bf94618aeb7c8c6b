package proxy

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"pleo-sidecar/tokens"
)

// fixedSource gives one token.
type fixedSource struct{ token tokens.Token }

func (s fixedSource) Token(context.Context) (tokens.Token, error) { return s.token, nil }

func (s fixedSource) Refresh(context.Context, tokens.Token) (tokens.Token, error) {
	return s.token, nil
}

// discardWriter is a response writer that keeps nothing.
type discardWriter struct{ header http.Header }

func (w *discardWriter) Header() http.Header         { return w.header }
func (w *discardWriter) Write(p []byte) (int, error) { return len(p), nil }
func (w *discardWriter) WriteHeader(int)             {}

// benchmarkHandler measures the handler alone: the upstream answers in memory.
func benchmarkHandler(b *testing.B, body []byte) {
	source := fixedSource{newToken(firstAccess)}
	answer := []byte(`{"data":[]}`)
	h, err := New(Options{
		Upstream:     &url.URL{Scheme: "https", Host: "api.example"},
		Connections:  func(context.Context, string) (Source, error) { return source, nil },
		ReplayLimit:  1 << 20,
		ReplayBudget: 64 << 20,
		Logger:       slog.New(slog.NewJSONHandler(io.Discard, nil)),
		Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.Body != nil {
				_, _ = io.Copy(io.Discard, r.Body)
				r.Body.Close()
			}
			return &http.Response{
				StatusCode: 200, ProtoMajor: 1, ProtoMinor: 1, ContentLength: int64(len(answer)),
				Header: http.Header{"Content-Type": {"application/json"}},
				Body:   io.NopCloser(bytes.NewReader(answer)),
			}, nil
		}),
	})
	if err != nil {
		b.Fatal(err)
	}
	r := httptest.NewRequest("POST", "/@acme/v1/accounting-entries:search?limit=10", nil)
	r.Host = "localhost:8080"
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", "bench")
	w := &discardWriter{}
	b.ReportAllocs()
	for b.Loop() {
		if body != nil {
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		}
		w.header = http.Header{}
		h.ServeHTTP(w, r)
	}
}

func BenchmarkHandlerGet(b *testing.B)  { benchmarkHandler(b, nil) }
func BenchmarkHandlerPost(b *testing.B) { benchmarkHandler(b, make([]byte, 2<<10)) }

// BenchmarkProxiedGet measures a whole call over the loopback, with a caller and
// an upstream in the same process.
func BenchmarkProxiedGet(b *testing.B) {
	up := newFakeUpstream(b, nil)
	up.answer = func(w http.ResponseWriter, _ *http.Request) {
		up.mu.Lock()
		up.came = nil
		up.mu.Unlock()
		_, _ = io.WriteString(w, `{"data":[]}`)
	}
	source := fixedSource{newToken(firstAccess)}
	h, err := New(Options{
		Upstream:    up.url,
		Connections: func(context.Context, string) (Source, error) { return source, nil },
	})
	if err != nil {
		b.Fatal(err)
	}
	addr := serve(b, NewServer(h, nil))
	caller := NewTransport(TransportOptions{})
	defer caller.CloseIdleConnections()
	r, err := http.NewRequest(http.MethodGet, "http://"+addr+"/v1/employees", nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		res, err := caller.RoundTrip(r)
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		res.Body.Close()
	}
}
