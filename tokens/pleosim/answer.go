package pleosim

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// answer is what a call gets. One of json, body and stream is set.
type answer struct {
	status int
	header map[string]string
	json   map[string]any
	body   []byte
	stream func(http.ResponseWriter)
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
