package pleosim_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"pleo-sidecar/tokens/pleosim"
)

// fakeTB collects what a Sim says to its test.
type fakeTB struct {
	*testing.T
	mu     sync.Mutex
	errors []string
}

func (f *fakeTB) Errorf(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.errors = append(f.errors, fmt.Sprintf(format, args...))
}

func (f *fakeTB) complaints() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(f.errors, "\n")
}

// world is a Sim, served in memory, and a client that follows nothing.
type world struct {
	*testing.T
	*pleosim.Sim
	tb   *fakeTB
	http *http.Client
}

func inBubble(t *testing.T, o pleosim.Options, story func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		tb := &fakeTB{T: t}
		sim := pleosim.New(tb, o)
		story(&world{T: t, Sim: sim, tb: tb, http: &http.Client{
			Transport:     sim.Pipes(t),
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}})
	})
}

const (
	tokenURL      = "http://" + pleosim.AuthAddr + "/oauth/token"
	introspectURL = tokenURL + "/introspect"
	apiURL        = "http://" + pleosim.APIAddr
)

// reply is an answer, read whole.
type reply struct {
	status int
	header http.Header
	body   []byte
	json   map[string]any
	err    error
}

func (r reply) text(name string) string {
	text, _ := r.json[name].(string)
	return text
}

func (w *world) do(req *http.Request) reply {
	w.Helper()
	resp, err := w.http.Do(req)
	if err != nil {
		return reply{err: err}
	}
	defer func() { _ = resp.Body.Close() }()
	r := reply{status: resp.StatusCode, header: resp.Header}
	r.body, r.err = io.ReadAll(resp.Body)
	_ = json.Unmarshal(r.body, &r.json)
	return r
}

func (w *world) request(method, target, body string) *http.Request {
	w.Helper()
	req, err := http.NewRequestWithContext(w.Context(), method, target, strings.NewReader(body))
	if err != nil {
		w.Fatal(err)
	}
	return req
}

// post sends a form with the client's Basic credentials; edit may spoil it.
func (w *world) post(target string, form url.Values, edit ...func(*http.Request)) reply {
	w.Helper()
	req := w.request("POST", target, form.Encode())
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth("pleosim-client", "pleosim-secret")
	for _, do := range edit {
		do(req)
	}
	return w.do(req)
}

func (w *world) refresh(token string) reply {
	w.Helper()
	return w.post(tokenURL, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}})
}

func (w *world) active(token string) any {
	w.Helper()
	return w.post(introspectURL, url.Values{"token": {token}}).json["active"]
}

func (w *world) call(method, path, access, body string) reply {
	w.Helper()
	req := w.request(method, apiURL+path, body)
	if access != "" {
		req.Header.Set("Authorization", "Bearer "+access)
	}
	return w.do(req)
}

// complained demands that the test was failed from inside for this kind, and
// for nothing else.
func (w *world) complained(kind pleosim.Kind) {
	w.Helper()
	all := w.Violations()
	for _, v := range all {
		if v.Kind != kind {
			w.Errorf("unexpected violation %s: %s", v.Kind, v.Text)
		}
	}
	if got := w.tb.complaints(); len(all) == 0 || !strings.Contains(got, string(kind)) {
		w.Errorf("the test was not failed for %q, it heard: %q", kind, got)
	}
	if w.Ledger().Clean() == nil {
		w.Error("the ledger is clean, want a complaint")
	}
}

// quiet demands that nothing was held against the client.
func (w *world) quiet() {
	w.Helper()
	if got := w.tb.complaints(); got != "" {
		w.Errorf("the test was failed from inside: %s", got)
	}
	if err := w.Ledger().Clean(); err != nil {
		w.Errorf("ledger: %v", err)
	}
}

func (w *world) want(r reply, status int) {
	w.Helper()
	if r.err != nil || r.status != status {
		w.Fatalf("got status %d, error %v, content %.200q; want %d", r.status, r.err, r.body, status)
	}
}

func TestSecretsNeverShowInLogOrLedger(t *testing.T) {
	var log bytes.Buffer
	var mu sync.Mutex
	o := pleosim.Options{Log: func(line string) {
		mu.Lock()
		defer mu.Unlock()
		log.WriteString(line + "\n")
	}}
	inBubble(t, o, func(w *world) {
		first := w.Grant()
		second := w.refresh(first)
		w.refresh(first)
		w.call("GET", "/v1/companies?access_token="+url.QueryEscape(second.text("access_token")), first, "")
		w.active(first)
		ledger, err := json.Marshal(w.Ledger())
		if err != nil {
			w.Fatal(err)
		}
		mu.Lock()
		defer mu.Unlock()
		all := log.String() + string(ledger) + strings.Join(w.Ledger().Summary(), "\n") + w.tb.complaints()
		if len(w.Secrets()) < 5 || len(all) < 500 {
			w.Fatalf("nothing to search: %d secrets, %d bytes", len(w.Secrets()), len(all))
		}
		for _, secret := range w.Secrets() {
			if strings.Contains(all, secret) {
				w.Errorf("%q was said aloud", secret)
			}
		}
	})
}

func TestSameSeedGivesSameTokens(t *testing.T) {
	draw := func(seed uint64) string { return pleosim.New(nil, pleosim.Options{Seed: seed, Hostile: true}).Grant() }
	if first, second := draw(7), draw(7); first != second {
		t.Error("one seed gave two different tokens")
	}
	if draw(7) == draw(8) {
		t.Error("two seeds gave one token")
	}
}

func TestNothingIsSaidToAFinishedTest(t *testing.T) {
	tb := &fakeTB{T: t}
	sim := pleosim.New(tb, pleosim.Options{})
	sim.Close()
	req, err := http.NewRequestWithContext(t.Context(), "GET", "/v1/companies?access_token=x", nil)
	if err != nil {
		t.Fatal(err)
	}
	sim.API().ServeHTTP(discard{http.Header{}}, req)
	if len(sim.Violations()) != 1 || tb.complaints() != "" {
		t.Errorf("violations %v, complaints %q; want one and none", sim.Violations(), tb.complaints())
	}
}

// discard is a ResponseWriter for answers nobody reads.
type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(p []byte) (int, error) { return len(p), nil }
func (d discard) WriteHeader(int)             {}
