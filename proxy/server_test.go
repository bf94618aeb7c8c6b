package proxy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// idleHandler is a handler whose calls only count.
func idleHandler(t *testing.T) *Handler {
	t.Helper()
	o, err := newObserver(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &Handler{observer: o}
}

// call makes a call that takes d.
func (h *Handler) call(d time.Duration) {
	h.observer.serve(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil), func(http.ResponseWriter, *http.Request) {
		time.Sleep(d)
	})
}

func TestLingerEndsWhenItIsQuiet(t *testing.T) {
	for name, c := range map[string]struct {
		calls func(*Handler)
		quiet time.Duration
		want  time.Duration
	}{
		"no quiet asked for": {func(*Handler) {}, 0, 0},
		"no call":            {func(*Handler) {}, 5 * time.Second, 5 * time.Second},
		"calls come": {func(h *Handler) {
			for range 4 {
				time.Sleep(4 * time.Second)
				h.call(0)
			}
		}, 5 * time.Second, 21 * time.Second},
		"one long call": {func(h *Handler) { h.call(33 * time.Second) }, 5 * time.Second, 38 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := idleHandler(t)
				time.Sleep(time.Hour)
				began := time.Now()
				go c.calls(h)
				synctest.Wait()
				h.Linger(t.Context(), c.quiet)
				if took := time.Since(began); took != c.want {
					t.Errorf("it lingered for %v, want %v", took, c.want)
				}
			})
		})
	}
}

func TestLingerEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		idleHandler(t).Linger(ctx, time.Hour)
		if took := time.Since(began); took != time.Second {
			t.Errorf("it lingered for %v", took)
		}
	})
}

func TestCallsInFlightAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := idleHandler(t)
		time.Sleep(time.Minute)
		go h.call(10 * time.Second)
		go h.call(20 * time.Second)
		synctest.Wait()
		came := time.Now()
		if h.InFlight() != 2 || !h.LastCall().Equal(came) {
			t.Errorf("%d in flight, last call %v", h.InFlight(), h.LastCall())
		}
		time.Sleep(time.Minute)
		if h.InFlight() != 0 || !h.LastCall().Equal(came.Add(20*time.Second)) {
			t.Errorf("%d in flight, last call %v", h.InFlight(), h.LastCall())
		}
	})
}

func TestStreamsAreNotBuffered(t *testing.T) {
	next := make(chan string)
	up := newFakeUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
		for text := range next {
			_, _ = io.WriteString(w, text)
			_ = http.NewResponseController(w).Flush()
		}
	})
	s := start(t, up.url, &fakeSource{access: []string{firstAccess}})
	go func() { next <- "one" }()
	res, err := noFollow.RoundTrip(s.request("GET", "/v1/x", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	for _, want := range []string{"one", "two"} {
		got := make([]byte, 3)
		if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != want {
			t.Fatalf("read %q, %v", got, err)
		}
		if want == "one" {
			next <- "two"
		}
	}
	close(next)
}

func TestServerHasLimitsButNoneOnContent(t *testing.T) {
	s := NewServer(http.NotFoundHandler(), nil)
	if s.ReadTimeout != 0 || s.WriteTimeout != 0 {
		t.Error("streams are cut")
	}
	if s.ReadHeaderTimeout <= 0 || s.IdleTimeout <= 0 || s.MaxHeaderBytes <= 0 {
		t.Error("a limit is missing")
	}
}

func TestAdminTellsTheState(t *testing.T) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewCounter(prometheus.CounterOpts{Name: "some_total", Help: "Some."}))
	h := NewAdmin(AdminOptions{Ready: func() error { return errors.New("main: not ready yet") }, Metrics: registry})
	for _, c := range []struct {
		method, path string
		status       int
		body         string
	}{
		{"GET", "/startupz", 200, "ok\n"},
		{"GET", "/livez", 200, "ok\n"},
		{"GET", "/readyz", 503, "main: not ready yet\n"},
		{"POST", "/readyz", 405, ""},
		{"DELETE", "/metrics", 405, ""},
		{"GET", "/metrics", 200, "some_total 0"},
		{"GET", "/", 404, ""},
		{"GET", "/debug/pprof/", 404, ""},
		{"GET", "/v1/employees", 404, ""},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(c.method, c.path, nil))
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.body) {
			t.Errorf("%s %s: %d %q", c.method, c.path, w.Code, w.Body)
		}
	}
	server := serve(t, NewServer(h, nil))
	res, err := noFollow.RoundTrip(httptest.NewRequest("HEAD", "http://"+server+"/livez", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, _ := io.ReadAll(res.Body); res.StatusCode != 200 || len(body) != 0 {
		t.Errorf("HEAD: %d %q", res.StatusCode, body)
	}
}
