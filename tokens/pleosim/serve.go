package pleosim

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// call is one request on its way through the stages.
type call struct {
	place Place
	w     http.ResponseWriter
	r     *http.Request
	fault Fault
	body  []byte // of a form; the API reads its own

	token   *token // the refresh token presented
	entry   int    // its line in token.presented
	carries *token // the refresh token that the answer brings
	refused bool   // the answer says that token is dead
	late    func() // the work, to be done after the answer
	settled bool
}

// answer is what a call gets. One of json, body and stream is set.
type answer struct {
	status int
	header map[string]string
	json   map[string]any
	body   []byte
	stream func(http.ResponseWriter)
}

const (
	answered = "answered"
	onItsWay = "on its way"

	formLimit = 1 << 20
)

// serve takes one request through its fault: strike before, work, strike after,
// answer. The rotation is decided inside work and nowhere else.
func (s *Sim) serve(faults *Faults, w http.ResponseWriter, r *http.Request, work func(*call) answer) {
	c := &call{place: faults.place, w: w, r: r, fault: faults.take()}
	f := c.fault
	if !f.After && f.Cut && f.Delay == 0 && !f.Hold {
		s.logf("%s: cut before reading", c.place)
		abort()
	}
	if err := c.readForm(); err != nil {
		s.logf("%s: request never completed", c.place)
		abort()
	}
	s.fire(c, Arrived)
	if !f.After && f.Late == 0 {
		s.strike(c)
		if f.Status != 0 {
			s.write(c, s.instead(c))
			return
		}
	}
	defer s.settle(c, "lost: aborted")
	a, how := work(c), answered
	if c.late != nil {
		s.postpone(c)
	}
	if f.After {
		s.strike(c)
		if f.Status != 0 {
			a, how = s.instead(c), "lost: answered "+strconv.Itoa(f.Status)+" instead"
		}
	}
	if f.Garble != "" {
		how = "lost: garbled, " + string(f.Garble)
	}
	s.fire(c, BeforeAnswer)
	if how == answered && r.Context().Err() != nil {
		how = "lost: the client was gone"
	}
	// Settled before the first byte leaves: a fast client may present the next
	// refresh token while this function still returns.
	s.settle(c, how)
	if err := s.write(c, a); err != nil {
		c.settled = false
		s.settle(c, "lost: broken while writing")
	}
}

func (c *call) readForm() (err error) {
	if c.place == AtToken || c.place == AtIntrospect {
		c.body, err = io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, formLimit))
	}
	return err
}

// strike waits and cuts as the fault says.
func (s *Sim) strike(c *call) {
	s.pause(c.fault)
	if c.fault.Cut {
		s.settle(c, "lost: cut")
		s.logf("%s: connection cut, work done: %t", c.place, c.fault.After)
		abort()
	}
}

// postpone does the work of a late call in its own time. The refresh counts as
// running until then.
func (s *Sim) postpone(c *call) {
	late := *c
	c.settled = true
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.done:
		return
	default:
	}
	s.late.Go(func() {
		if s.wait(context.Background(), late.fault.Late) {
			late.late()
		}
		s.settle(&late, "lost: rotated late")
	})
}

// settle ends a running refresh and notes what became of the answer, once.
func (s *Sim) settle(c *call, how string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.settled {
		return
	}
	c.settled = true
	if c.token != nil {
		c.token.grant.inFlight--
		c.token.refused = c.token.refused || c.refused && how == answered
	}
	if c.carries != nil {
		c.carries.answer = how
		if how != answered {
			s.logf("grant %s: answer with refresh token %d (%s) %s", c.carries.grant.id, c.carries.ordinal, c.carries.fingerprint, how)
		}
	}
}

// instead is the answer that hides the true one.
func (s *Sim) instead(c *call) answer {
	f := c.fault
	a := answer{status: f.Status, header: map[string]string{}}
	if a.status == 0 {
		a.status = http.StatusGatewayTimeout
	}
	if f.RetryAfter != "" {
		a.header["Retry-After"] = f.RetryAfter
	}
	if a.status >= 300 && a.status < 400 {
		a.header["Location"] = f.Location
		if f.Location == "" {
			a.header["Location"] = redirectTrap
		}
	}
	if c.place == AtResource && a.status == http.StatusUnauthorized {
		s.refusedCall(causeFault)
	}
	s.logf("%s: answered %d instead, work done: %t, later: %s", c.place, a.status, f.After, f.Late)
	if f.Proxy {
		a.header["Content-Type"], a.header["Server"] = "text/html", "egress-proxy"
		a.body = []byte("<html><body>" + http.StatusText(a.status) + "</body></html>")
		return a
	}
	code := f.Code
	if c.place == AtResource || c.place == AtFile {
		if code == "" {
			code = strings.ToUpper(strings.ReplaceAll(http.StatusText(a.status), " ", "_"))
		}
		return a.with(map[string]any{"type": code, "message": "a fault of the simulator"})
	}
	switch {
	case code != "":
	case a.status == http.StatusUnauthorized:
		code = "invalid_client"
	case a.status >= 500:
		code = "server_error"
	default:
		code = "invalid_request"
	}
	return a.with(map[string]any{"error": code, "error_description": "a fault of the simulator"})
}

func (a answer) with(members map[string]any) answer {
	a.json = members
	return a
}

// write sends the answer, dressed as the options and the fault ask.
func (s *Sim) write(c *call, a answer) error {
	h := c.w.Header()
	for name, value := range a.header {
		h.Set(name, value)
	}
	if skew := s.opt.Skew + c.fault.Skew; skew != 0 {
		h.Set("Date", time.Now().Add(skew).UTC().Format(http.TimeFormat))
	}
	body := a.body
	if a.json != nil {
		h.Set("Content-Type", "application/json;charset=UTF-8")
		body = s.encode(a.json)
	}
	if c.place == AtToken || c.place == AtIntrospect {
		h.Set("Cache-Control", "no-store")
	}
	if c.fault.Garble != "" {
		body = garble(c, body)
	}
	if s.opt.Hostile {
		strangeCasing(h)
	} else if a.stream == nil && a.status != http.StatusNoContent {
		h.Set("Content-Length", strconv.Itoa(len(body)))
	}
	c.w.WriteHeader(a.status)
	flush := http.NewResponseController(c.w)
	if a.stream != nil {
		a.stream(c.w)
		return nil
	}
	if c.fault.Garble == GarbleTruncated {
		_, _ = c.w.Write(body[:len(body)/2])
		_ = flush.Flush()
		abort()
	}
	// In two pieces and without a length, a hostile answer is chunked.
	for _, piece := range [][]byte{body[:len(body)/2], body[len(body)/2:]} {
		if len(piece) == 0 {
			continue
		}
		if _, err := c.w.Write(piece); err != nil {
			return err
		}
		if err := flush.Flush(); s.opt.Hostile && err != nil && !errors.Is(err, http.ErrNotSupported) {
			return err
		}
	}
	return nil
}

func (s *Sim) encode(members map[string]any) []byte {
	if s.opt.Hostile {
		members = maps.Clone(members)
		members["x_unknown"] = map[string]any{"nested": []any{nil, "\u2028 ünïcode", s.dice.below(1000)}}
	}
	body, err := json.Marshal(members)
	if err != nil {
		panic(err) // the simulator's own values
	}
	return body
}

func garble(c *call, body []byte) []byte {
	switch c.fault.Garble {
	case GarbleJSON:
		return append([]byte("{,"), body...)
	case GarbleEmpty:
		return nil
	case GarbleHuge:
		return append([]byte(strings.Repeat(" ", hugeAnswer)), body...)
	case GarbleNoAccess:
		return []byte(`{"refresh_token":"","expires_in":900}`)
	case GarbleHTML:
		c.w.Header().Set("Content-Type", "text/html")
		return []byte("<html><body>Welcome to the hotel's network</body></html>")
	}
	return body
}

// strangeCasing renames a field the way HTTP allows and few expect. The nil
// value keeps net/http from guessing a second Content-Type.
func strangeCasing(h http.Header) {
	if ct := h["Content-Type"]; ct != nil {
		h["Content-Type"], h["cOntent-tYPE"] = nil, ct
	}
}

// screen looks for credentials where none belong, before anything else.
func (s *Sim) screen(place Place, r *http.Request) {
	auth := r.Header.Values("Authorization")
	if len(auth) > 1 {
		s.violate(Malformed, "%s: %d Authorization fields", place, len(auth))
	}
	for _, value := range auth {
		basic := strings.HasPrefix(strings.ToLower(value), "basic ")
		switch {
		case place == AtFile:
			s.violate(WrongHost, "the file host received an Authorization field")
		case place == AtResource && basic:
			s.violate(WrongHost, "the resource API received Basic credentials")
		case place != AtResource && !basic:
			s.violate(WrongHost, "the authorization server received an Authorization field that is not Basic")
		}
	}
	if r.URL.RawQuery != "" {
		s.screenValues(place, "query", r.URL.Query())
	}
}

// screenValues reports tokens among the fields of a query or a form.
func (s *Sim) screenValues(place Place, where string, values url.Values) {
	for name, all := range values {
		if name == "access_token" || name == "refresh_token" || name == "client_secret" {
			s.violate(Exposed, "%s: %s in the %s", place, name, where)
			continue
		}
		for _, value := range all {
			s.mu.Lock()
			known := s.tokens[value] != nil
			s.mu.Unlock()
			if known {
				s.violate(Exposed, "%s: a token in the %s", place, where)
			}
		}
	}
}
