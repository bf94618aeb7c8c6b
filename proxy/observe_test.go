package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"pleo-sidecar/tokens"
)

// record is one line of the access log.
type record map[string]any

// lastRecord returns the record of the call that ended last.
func (s *sidecar) lastRecord() record {
	s.t.Helper()
	s.waitEnd()
	lines := strings.Split(strings.TrimSpace(s.log.String()), "\n")
	var r record
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &r); err != nil {
		s.t.Fatal(err)
	}
	return r
}

func (r record) want(t *testing.T, want record) {
	t.Helper()
	for key, value := range want {
		if r[key] != value {
			t.Errorf("%s is %v, want %v, in %v", key, r[key], value, r)
		}
	}
}

func TestEachRequestIsOneRecordWithoutItsSecrets(t *testing.T) {
	up := newFakeUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		accepts(secondAccess)(w, r)
		_, _ = io.WriteString(w, "content")
	})
	s := start(t, up.url, &fakeSource{access: []string{firstAccess, secondAccess}})
	r := s.request("POST", "/@acme/v1/x?secret=query", strings.NewReader("whsec_content"))
	r.Header.Set("Authorization", "Bearer "+callerSecret)
	r.Header.Set("Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	r.Header.Set("X-Request-Id", "req-7")
	s.do(r)
	got := s.lastRecord()
	got.want(t, record{
		"level": "DEBUG", "msg": "request", "method": "POST", "path": "/@acme/v1/x", "status": 200.0, "connection": "acme",
		"retried": true, "bytes": 7.0, "request_id": "req-7", "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
	})
	if strings.Count(s.log.String(), "\n") != 1 || strings.Contains(s.log.String(), "whsec") || strings.Contains(s.log.String(), "query") {
		t.Errorf("log:\n%s", s.log)
	}
	if took, ok := got["duration"].(float64); !ok || took <= 0 {
		t.Errorf("duration %v", got["duration"])
	}
}

func TestLevelsTellWhoShouldRead(t *testing.T) {
	up := newFakeUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		var code int
		_ = json.Unmarshal([]byte(r.URL.Path[1:]), &code)
		w.WriteHeader(code)
	})
	s := start(t, up.url, &fakeSource{access: []string{firstAccess}})
	for path, want := range map[string]string{
		"/200": "DEBUG", "/204": "DEBUG", "/302": "INFO", "/403": "INFO", "/429": "INFO", "/500": "WARN",
		"/@nobody/x": "INFO", "/@Nobody/x": "INFO",
	} {
		s.get(path)
		s.lastRecord().want(t, record{"level": want})
	}
	s.source.tokenErr = tokens.ErrLoginRequired
	s.get("/200")
	s.lastRecord().want(t, record{"level": "WARN", "reason": "login-required", "err": "tokens: login required"})
}

func TestStrangeRequestIDsAreReplaced(t *testing.T) {
	for id, ok := range map[string]bool{
		"a-B_9.x": true, "": false, strings.Repeat("a", 64): true, strings.Repeat("a", 65): false, "a b": false, `a"b`: false, "Bearer:x": false,
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("X-Request-Id", id)
		c := &call{}
		got := c.requestID(r)
		if (got == id) != ok || got == "" || c.requestID(r) != got {
			t.Errorf("%q becomes %q", id, got)
		}
	}
}

func TestTraceIDsAreReadFromWellFormedFieldsOnly(t *testing.T) {
	const id = "4bf92f3577b34da6a3ce929d0e0e4736"
	for field, want := range map[string]string{
		"00-" + id + "-00f067aa0ba902b7-01":   id,
		"01-" + id + "-00f067aa0ba902b7-01-x": id,
		"":                                    "",
		id:                                    "",
		"00-" + strings.ToUpper(id) + "-00f067aa0ba902b7-01":     "",
		"00-" + strings.Repeat("0", 32) + "-00f067aa0ba902b7-01": "",
		"00-" + id[1:] + "\"-00f067aa0ba902b7-01":                "",
	} {
		if got := traceID(field); got != want {
			t.Errorf("%q has trace id %q, want %q", field, got, want)
		}
	}
}

func TestLongPathsAreCutInTheLog(t *testing.T) {
	up := newFakeUpstream(t, nil)
	s := start(t, up.url, &fakeSource{access: []string{firstAccess}})
	s.get("/v1/" + strings.Repeat("x", 2000))
	if path := s.lastRecord()["path"].(string); len(path) > loggedPath+3 {
		t.Errorf("%d bytes of path", len(path))
	}
}

func TestMetricsCountWhatHappened(t *testing.T) {
	registry := prometheus.NewRegistry()
	up := newFakeUpstream(t, accepts(secondAccess))
	s := start(t, up.url, &fakeSource{access: []string{firstAccess, secondAccess}}, func(o *Options) { o.Metrics = registry })
	s.get("/v1/x")
	s.get("/v1/x")
	s.get("/@nobody/v1/x")
	up.answer = status(799)
	s.get("/v1/x")
	for range 4 {
		s.waitEnd()
	}
	want := `
# HELP pleo_sidecar_requests_total Requests answered, by status code (499: the caller left first) and by whether they were sent again after a 401.
# TYPE pleo_sidecar_requests_total counter
pleo_sidecar_requests_total{code="200",retried="false"} 1
pleo_sidecar_requests_total{code="200",retried="true"} 1
pleo_sidecar_requests_total{code="404",retried="false"} 1
pleo_sidecar_requests_total{code="other",retried="false"} 1
# HELP pleo_sidecar_upstream_401_total Answers of the upstream with status 401, first and second ones.
# TYPE pleo_sidecar_upstream_401_total counter
pleo_sidecar_upstream_401_total 1
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "pleo_sidecar_requests_total", "pleo_sidecar_upstream_401_total"); err != nil {
		t.Error(err)
	}
	if n, err := testutil.GatherAndCount(registry, "pleo_sidecar_request_duration_seconds"); err != nil || n != 1 {
		t.Errorf("%d duration histograms, %v", n, err)
	}
}

func TestMetricsAreRegisteredOnce(t *testing.T) {
	registry := prometheus.NewRegistry()
	o := Options{
		Upstream: mustParse(t, "https://h"), Metrics: registry,
		Connections: func(context.Context, string) (Source, error) { return nil, tokens.ErrUnknownConnection },
	}
	if _, err := New(o); err != nil {
		t.Fatal(err)
	}
	if _, err := New(o); err == nil {
		t.Error("two handlers share a registry")
	}
}

func TestPanicIsAnsweredAndItsValueIsNotLogged(t *testing.T) {
	up := newFakeUpstream(t, nil)
	s := start(t, up.url, nil, func(o *Options) {
		o.Connections = func(context.Context, string) (Source, error) { panic(errors.New(firstAccess)) }
	})
	wantProblem(t, s.get("/v1/x"), slugInternalError)
	s.lastRecord().want(t, record{"level": "WARN", "status": 500.0, "reason": "internal-error"})
	for _, want := range []string{`"msg":"panic"`, `"type":"*errors.errorString"`, "TestPanicIsAnswered"} {
		if !strings.Contains(s.log.String(), want) {
			t.Errorf("the log lacks %s:\n%s", want, s.log)
		}
	}
	if s.InFlight() != 0 {
		t.Errorf("%d calls in flight", s.InFlight())
	}
}

func TestPanicInTheMiddleCutsTheAnswer(t *testing.T) {
	var log bytes.Buffer
	o, err := newObserver(slog.New(slog.NewJSONHandler(&log, nil)), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, value := range []any{"own fault", http.ErrAbortHandler} {
		func() {
			defer func() {
				if v := recover(); !isAbort(v) {
					t.Errorf("%v became %v", value, v)
				}
			}()
			o.serve(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil), func(w http.ResponseWriter, _ *http.Request) {
				_, _ = io.WriteString(w, "half")
				panic(value)
			})
		}()
	}
	if !strings.Contains(log.String(), `"aborted":true`) || o.inFlight.Load() != 0 {
		t.Errorf("%d in flight, log:\n%s", o.inFlight.Load(), &log)
	}
}
