package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pleo-sidecar/tokens/pleosim"
)

const whoami = "/v1/introspect" // Pleo's own: which grant a call belongs to

func TestCallGetsTheBearerOfItsConnection(t *testing.T) {
	w := newWorld(t, pleosim.Options{})
	w.start().stop() // makes the folder
	w.grantTo("acme")
	w.grantTo("default")
	s := w.start()
	acme, fallback := s.want("/@acme"+whoami, 200), s.want(whoami, 200)
	if acme.body == fallback.body {
		t.Error("two connections are one grant")
	}
	if acme.slug() != "" {
		t.Error("Pleo's answer looks like ours")
	}
	s.stop()
	if n := w.presentations(); n != 2 {
		t.Errorf("%d refresh tokens presented, want one a connection", n)
	}
}

func TestProbesTellWhatIsReady(t *testing.T) {
	s := newWorld(t, pleosim.Options{}).start()
	for _, path := range []string{"/startupz", "/livez", "/readyz"} {
		until(t, func() bool { return get(t.Context(), s.admin+path).status == http.StatusOK })
	}
	if r := get(t.Context(), s.admin+"/metrics"); !strings.Contains(r.body, "\npleo_sidecar_requests_total") &&
		!strings.Contains(r.body, "\npleo_sidecar_refreshes_total") || !strings.Contains(r.body, "\ngo_goroutines ") {
		t.Errorf("metrics are missing: %.300s", r.body)
	}
	s.with("ADMIN_LISTEN=" + strings.TrimPrefix(s.admin, "http://"))
	if code, out := s.run("", "healthcheck"); code != 0 {
		t.Errorf("healthcheck ended with %d: %s", code, out)
	}
	s.stop()
	if code, _ := s.run("", "healthcheck"); code != 1 {
		t.Errorf("healthcheck of nothing ended with %d", code)
	}
}

func TestStartIsOneLineWithTheRealPorts(t *testing.T) {
	s := newWorld(t, pleosim.Options{}).with("REFRESH_LEAD=1s").start()
	line := s.await("serving")
	if strings.HasSuffix(s.callers, ":0") || strings.HasSuffix(s.admin, ":0") || line["version"] != testVersion || line["connections"] != 0.0 {
		t.Errorf("got %v", line)
	}
	if reason := s.await("configuration is doubtful")["reason"]; !strings.HasPrefix(reason.(string), "refresh.lead: ") {
		t.Errorf("got warning %q", reason)
	}
}

func TestImportRevivesAConnectionWithoutARestart(t *testing.T) {
	w := newWorld(t, pleosim.Options{})
	s := w.start()
	if r := s.want(whoami, 401); r.slug() != "login-required" {
		t.Errorf("got %q", r.slug())
	}
	if r := s.want("/@acme"+whoami, 404); r.slug() != "unknown-connection" {
		t.Errorf("got %q", r.slug())
	}
	w.grantTo("default")
	w.grantTo("acme")
	until(t, func() bool { return s.get(whoami).status == 200 })
	s.want("/@acme"+whoami, 200)
	s.stop()
}

func TestSeedIsUsedOnceWhateverIsRestarted(t *testing.T) {
	w := newWorld(t, pleosim.Options{})
	w.with("CONNECTIONS_SEED_REFRESH_TOKEN=" + w.Grant())
	for range 3 {
		s := w.start()
		s.want(whoami, 200)
		s.stop()
	}
	if n := w.presentations(); n != 1 {
		t.Errorf("%d presentations", n)
	}
}

func TestRevokedGrantIsToldOnceAndLeftAlone(t *testing.T) {
	w := newWorld(t, pleosim.Options{AccessLife: time.Second})
	w.start().stop()
	refresh := w.grantTo("acme")
	s := w.start()
	s.want("/@acme"+whoami, 200)
	w.Revoke("")
	var last response
	until(t, func() bool {
		last = s.get("/@acme" + whoami)
		return last.slug() != "" // Pleo's own 401, until the token has ended
	})
	if last.status != 401 || last.slug() != "login-required" || last.header.Get("WWW-Authenticate") == "" {
		t.Errorf("got %d %q: %s", last.status, last.slug(), last.body)
	}

	before, presented := w.Ledger(), w.presentations()
	s.want("/@acme"+whoami, 401)
	s.stop()
	s = w.start()
	if r := s.want("/@acme"+whoami, 401); r.slug() != "login-required" {
		t.Errorf("got %q after a restart", r.slug())
	}
	after := w.Ledger()
	if before.Introspections != after.Introspections || before.APIRefused["revoked"] != after.APIRefused["revoked"] || w.presentations() != presented {
		t.Errorf("more was sent for a dead grant: %+v, then %+v", before.Tally, after.Tally)
	}
	code, out := w.run("", "status")
	if code != 3 || !strings.Contains(out, "login_required") || !strings.Contains(out, `pleo-sidecar: connection "acme": login required`) {
		t.Errorf("status ended with %d: %s", code, out)
	}
	if code, _ = w.run(refresh, "import", "acme"); code != 1 {
		t.Errorf("import of the spent token ended with %d", code)
	}

	w.grantTo("acme")
	until(t, func() bool { return s.get("/@acme"+whoami).status == 200 })
	s.stop()
}

func TestRejectedClientIsToldAndRecoversWithoutALogin(t *testing.T) {
	w := newWorld(t, pleosim.Options{}).brief()
	w.start().stop()
	w.grantTo("acme")
	w.SetClientSecret("another")
	s := w.start()
	if r := s.want("/@acme"+whoami, 503); r.slug() != "client-rejected" {
		t.Errorf("got %q", r.slug())
	}
	s.stop()
	s = w.with("OAUTH_CLIENT_SECRET=another").start()
	s.want("/@acme"+whoami, 200)
	s.stop()
}

func TestOneDamagedRecordIsNamedAndStopsNoOther(t *testing.T) {
	w := newWorld(t, pleosim.Options{})
	w.start().stop()
	w.grantTo("acme")
	damaged := filepath.Join(w.dir, "tokens", "bad.record")
	if err := os.WriteFile(damaged, []byte(`{"format": 1`), 0o600); err != nil {
		t.Fatal(err)
	}
	s := w.start()
	if cause, _ := s.await("connection cannot be loaded")["err"].(string); !strings.Contains(cause, damaged) {
		t.Errorf("the log does not name the file: %q", cause)
	}
	s.want("/@acme"+whoami, 200)
	if r := s.want("/@bad"+whoami, 503); r.slug() != "store-unavailable" {
		t.Errorf("got %q", r.slug())
	}
	s.stop()
	if kept, err := os.ReadFile(damaged); err != nil || string(kept) != `{"format": 1` {
		t.Errorf("the damaged file became %q, %v", kept, err)
	}
}
