package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// output is a buffer that tells when a line of it is whole.
type output struct {
	mu    sync.Mutex
	text  bytes.Buffer
	ready chan struct{}
	once  sync.Once
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if strings.HasPrefix(string(p), "pleosim ready") {
		defer o.once.Do(func() { close(o.ready) })
	}
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// program runs until stop is called, which returns its exit status.
func program(t *testing.T, args ...string) (urls map[string]string, stop func() (int, string)) {
	t.Helper()
	out, ended := &output{ready: make(chan struct{})}, make(chan int, 1)
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	args = append([]string{"-auth", "127.0.0.1:0", "-api", "127.0.0.1:0", "-files", "127.0.0.1:0"}, args...)
	go func() { ended <- run(ctx, args, out, io.Discard) }()
	select {
	case <-out.ready:
	case status := <-ended:
		t.Fatalf("ended with %d: %s", status, out)
	}
	urls = map[string]string{}
	for _, m := range regexp.MustCompile(`(auth|api|files)=(\S+)`).FindAllStringSubmatch(out.String(), -1) {
		urls[m[1]] = m[2]
	}
	return urls, func() (int, string) {
		cancel()
		return <-ended, out.String()
	}
}

func send(t *testing.T, method, url, content, access string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth("pleosim-client", "pleosim-secret")
	if access != "" {
		req.Header.Set("Authorization", "Bearer "+access)
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header.Get("Location") + string(body)
}

func TestProgramServesWhatItPrintsAndEndsWell(t *testing.T) {
	file := filepath.Join(t.TempDir(), "grant")
	if err := os.WriteFile(file, []byte("older"), 0o644); err != nil {
		t.Fatal(err)
	}
	urls, stop := program(t, "-grant-file", file, "-quiet", "-token-life", "30s")
	token, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode of the grant file: %v, %v; want 0600", info.Mode(), err)
	}
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {strings.TrimSpace(string(token))}}.Encode()
	status, body := send(t, "POST", urls["auth"]+"/oauth/token", form, "")
	access := regexp.MustCompile(`"access_token":"([^"]+)"`).FindStringSubmatch(body)
	if status != 200 || access == nil || !strings.Contains(body, `"expires_in":30`) {
		t.Fatalf("refresh: %d %s", status, body)
	}
	status, location := send(t, "GET", urls["api"]+"/v3/export-jobs/x/file", "", access[1])
	if status != 302 || !strings.HasPrefix(location, urls["files"]) {
		t.Errorf("download: %d to %s, want 302 to %s", status, location, urls["files"])
	}
	if status, body := send(t, "GET", urls["auth"]+"/sim/ledger", "", ""); status != 200 || !strings.Contains(body, `"clean": true`) {
		t.Errorf("ledger: %d %s", status, body)
	}
	if status, out := stop(); status != 0 || !strings.Contains(out, "grant g1: 1 rotations") {
		t.Errorf("ended with %d: %s", status, out)
	}
}

func TestProgramEndsWithOneAfterAViolation(t *testing.T) {
	urls, stop := program(t)
	send(t, "POST", urls["auth"]+"/oauth/token", "grant_type=password", "")
	if status, out := stop(); status != 1 || !strings.Contains(out, "violation malformed") {
		t.Errorf("ended with %d: %s; want 1 and the violation named", status, out)
	}
}

func TestProgramListensOnLoopbackOnly(t *testing.T) {
	for _, addr := range []string{":0", "0.0.0.0:0", "192.0.2.1:0", "example.com:0", "[::]:0"} {
		var stderr bytes.Buffer
		if status := run(t.Context(), []string{"-quiet", "-auth", addr}, io.Discard, &stderr); status != 2 || !strings.Contains(stderr.String(), "not loopback") {
			t.Errorf("%s: status %d, %q; want 2 and the reason", addr, status, stderr.String())
		}
	}
}

func TestProgramRefusesWrongUsage(t *testing.T) {
	for _, args := range [][]string{{"-client-auth", "both"}, {"extra"}, {"-no-such-flag"}} {
		if status := run(t.Context(), args, io.Discard, io.Discard); status != 2 {
			t.Errorf("%v: status %d, want 2", args, status)
		}
	}
}
