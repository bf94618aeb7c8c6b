package e2e

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pleo-sidecar/tokens/pleosim"
)

// TestNoSecretShowsAnywhere takes a connection through its life, mistakes
// included, and looks for every secret in all that was written on the way.
func TestNoSecretShowsAnywhere(t *testing.T) {
	const clientSecret, callerToken = "client<secret>&+/%=~", "caller-token-of-the-app"
	w := newWorld(t, pleosim.Options{ClientSecret: clientSecret, AccessLife: time.Second, Hostile: true}).brief().
		with("OAUTH_CLIENT_SECRET="+clientSecret, "CALLERS_TOKEN="+callerToken, "STORE_SPOOL_DIR=spool")
	key := w.setting("STORE_ENCRYPTION_KEYS")
	w.start().stop()
	spent := w.grantTo("acme")
	w.grantTo("default")
	s := w.start()
	call := func(path string) {
		w.show(s.getAs(callerToken, path))
		w.show(s.getAs("wrong-"+callerToken, path))
		w.show(get(t.Context(), s.admin+"/metrics"))
	}
	call("/@acme" + whoami)
	call(whoami)
	call("/@acme/echo?q=1")
	w.Token.Next(pleosim.Fault{Garble: pleosim.GarbleJSON}) // for whichever comes first
	problem := func(path string) string {
		r := s.getAs(callerToken, path)
		w.show(r)
		return r.slug()
	}
	until(t, func() bool { return problem(whoami)+problem("/@acme"+whoami) != "" })
	w.Revoke("")
	until(t, func() bool {
		return problem(whoami) == "login-required" && problem("/@acme"+whoami) == "login-required"
	})
	call("/@acme" + whoami)
	for _, args := range [][]string{{"status"}, {"status", "--json"}, {"check"}, {"import", "acme"}, {"import", spent}, {"import", "acme", spent}, {spent}} {
		w.run(spent, args...)
	}
	w.with("OAUTH_CLIENT_SECRET="+callerToken).run(w.Grant(), "import", "other")
	s.kill()

	hidden := append(w.Secrets(), clientSecret, callerToken, key)
	if len(hidden) < 8 {
		t.Fatalf("only %d secrets to look for", len(hidden))
	}
	places := w.files()
	if len(places) < 4 {
		t.Errorf("too few files to be all: %d", len(places))
	}
	places["the output"] = w.written()
	for _, secret := range hidden {
		for form, text := range forms(secret) {
			for name, content := range places {
				if bytes.Contains(content, []byte(text)) {
					t.Errorf("%s shows a secret of %d characters, %s", name, len(secret), form)
				}
			}
		}
	}
}

// setting returns what the environment of the processes says.
func (w *world) setting(name string) string {
	for _, entry := range w.env {
		if value, ok := strings.CutPrefix(entry, "PLEO_SIDECAR_"+name+"="); ok {
			return value
		}
	}
	w.Fatalf("%s is not set", name)
	return ""
}

// show adds an answer of ours, or what is public of one of Pleo's, to all that
// was written. Pleo's /echo repeats what it was sent, the token too.
func (w *world) show(r response) {
	w.Helper()
	if r.err != nil {
		w.Error(r.err)
	}
	for name, values := range r.header {
		_, _ = w.Write([]byte(name + ": " + strings.Join(values, ", ") + "\n"))
	}
	if !strings.Contains(r.body, "Authorization") {
		_, _ = w.Write([]byte(r.body))
	}
}

// files are the contents of all files that processes left behind.
func (w *world) files() map[string][]byte {
	w.Helper()
	contents := map[string][]byte{}
	err := filepath.WalkDir(w.dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		contents[name], err = os.ReadFile(name)
		return err
	})
	if err != nil {
		w.Fatal(err)
	}
	return contents
}

// forms are the ways in which a text may be written by accident.
func forms(secret string) map[string]string {
	inJSON, _ := json.Marshal(secret)
	all := map[string]string{
		"raw":            secret,
		"in a URL query": url.QueryEscape(secret),
		"in a URL path":  url.PathEscape(secret),
		"in JSON":        string(bytes.Trim(inJSON, `"`)),
		"in hex":         hex.EncodeToString([]byte(secret)),
		"in upper hex":   strings.ToUpper(hex.EncodeToString([]byte(secret))),
	}
	// In Base64 a text looks in three ways, by where it begins; the digits that
	// its neighbours touch are left out.
	for offset := range 3 {
		for name, encoding := range map[string]*base64.Encoding{"base64": base64.StdEncoding, "base64url": base64.URLEncoding} {
			text := encoding.EncodeToString(append(make([]byte, offset), secret...))
			all[name+" at "+"012"[offset:offset+1]] = text[(offset*8+5)/6 : (offset+len(secret))*8/6]
		}
	}
	return all
}

func TestFormsAreFoundInWhatTheyStandFor(t *testing.T) {
	const secret = "s<e>c&r+e/t"
	inJSON, _ := json.Marshal(secret)
	for before := range 3 {
		near := strings.Repeat("x", before)
		for _, text := range []string{
			near + secret, url.QueryEscape(near + secret), url.PathEscape(secret), string(inJSON), hex.EncodeToString([]byte(secret)),
			base64.StdEncoding.EncodeToString([]byte(near + secret + "y")), base64.RawURLEncoding.EncodeToString([]byte(near + secret)),
		} {
			found := false
			for _, form := range forms(secret) {
				found = found || strings.Contains(text, form)
			}
			if !found {
				t.Errorf("not found in %q", text)
			}
		}
	}
}

// Package net/http writes what an upstream sends unasked to the standard logger,
// word for word: here it is the bearer.
func TestUnaskedBytesOfTheUpstreamAreNotLogged(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	closed := make(chan struct{}, 1)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			br := bufio.NewReader(conn)
			if r, err := http.ReadRequest(br); err == nil {
				_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
				_, _ = fmt.Fprintf(conn, "canary %s", r.Header.Get("Authorization"))
				_, _ = br.ReadByte() // until the sidecar gives the connection up
			}
			_ = conn.Close()
			closed <- struct{}{}
		}
	}()
	w := newWorld(t, pleosim.Options{}).with("UPSTREAM_URL=http://" + l.Addr().String())
	w.start().stop()
	w.grantTo("default")
	s := w.start()
	s.want("/x", 200)
	receive(t, closed)
	s.stop()
	if strings.Contains(string(w.written()), "canary") {
		t.Errorf("unasked bytes are in the output:\n%s", w.written())
	}
}
