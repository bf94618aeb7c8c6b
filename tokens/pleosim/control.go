package pleosim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// wireFault is a Fault whose durations are written "1.5s".
type wireFault struct {
	Fault
	Delay wireDuration `json:"delay"`
	Late  wireDuration `json:"late"`
	Lag   wireDuration `json:"lag"`
	Skew  wireDuration `json:"skew"`
}

type wireDuration time.Duration

func (d *wireDuration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	*d = wireDuration(parsed)
	return err
}

func (w wireFault) fault() Fault {
	f := w.Fault
	f.Delay, f.Late = time.Duration(w.Delay), time.Duration(w.Late)
	f.Lag, f.Skew = time.Duration(w.Lag), time.Duration(w.Skew)
	return f
}

// order is the content of every control request; each path reads its own part.
type order struct {
	Place   Place       `json:"place"`
	Mode    string      `json:"mode"` // next (also when empty), always, chance
	Chance  float64     `json:"chance"`
	Faults  []wireFault `json:"faults"`
	After   bool        `json:"after"`
	Grant   string      `json:"grant"` // id or any token of it; empty means all
	Refresh bool        `json:"refresh"`
	Subject string      `json:"subject"`
	Secret  string      `json:"secret"`
	Kinds   []Kind      `json:"kinds"`
}

// Control is the Sim for scripts and people, below /sim/. Whoever reaches it
// owns every grant: the program serves it on loopback only.
func (s *Sim) Control() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, do func(order) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			var o order
			d := json.NewDecoder(http.MaxBytesReader(w, r.Body, formLimit))
			d.DisallowUnknownFields()
			result, err := any(nil), d.Decode(&o)
			if err == nil || errors.Is(err, io.EOF) {
				result, err = do(o)
			}
			w.Header().Set("Content-Type", "application/json")
			if err != nil {
				w.WriteHeader(http.StatusBadRequest)
				result = map[string]string{"error": err.Error()}
			}
			e := json.NewEncoder(w)
			e.SetIndent("", "  ")
			_ = e.Encode(result)
		})
	}
	done := map[string]bool{"ok": true}
	handle("GET /sim/ledger", func(order) (any, error) {
		l := s.Ledger()
		return map[string]any{"ledger": l, "clean": l.Clean() == nil, "summary": l.Summary()}, nil
	})
	handle("GET /sim/violations", func(order) (any, error) { return s.Violations(), nil })
	handle("POST /sim/allow", func(o order) (any, error) { s.Allow(o.Kinds...); return done, nil })
	handle("POST /sim/faults", func(o order) (any, error) { return done, s.setFaults(o) })
	handle("DELETE /sim/faults", func(order) (any, error) {
		for _, f := range []*Faults{s.Token, s.Introspect, s.Resource, s.File} {
			f.Clear()
		}
		return done, nil
	})
	handle("POST /sim/expire", func(o order) (any, error) {
		if o.Refresh {
			s.Age(o.Grant)
		} else {
			s.Expire(o.Grant)
		}
		return done, nil
	})
	handle("POST /sim/revoke", func(o order) (any, error) { s.Revoke(o.Grant); return done, nil })
	handle("POST /sim/secret", func(o order) (any, error) { s.SetClientSecret(o.Secret); return done, nil })
	handle("POST /sim/grants", func(o order) (any, error) { return s.grantFor(o.Subject), nil })
	handle("POST /sim/hold", func(o order) (any, error) {
		return done, s.setFaults(order{Place: o.Place, Faults: []wireFault{{Fault: Fault{Hold: true, After: o.After}}}})
	})
	handle("GET /sim/hold", func(order) (any, error) { return map[string]int{"held": s.Held()}, nil })
	handle("DELETE /sim/hold", func(order) (any, error) { s.Release(); return done, nil })
	return mux
}

func (s *Sim) grantFor(subject string) map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.newGrant(subject)
	g.refresh.answer = answered
	s.logf("grant %s made by control, refresh token %s", g.id, g.refresh.fingerprint)
	return map[string]string{
		"grant": g.id, "subject": g.subject, "refresh_token": g.refresh.value, "access_token": g.access.value,
	}
}

func (s *Sim) setFaults(o order) error {
	f := map[Place]*Faults{AtToken: s.Token, AtIntrospect: s.Introspect, AtResource: s.Resource, AtFile: s.File}[o.Place]
	if f == nil {
		return fmt.Errorf("unknown place %q: token, introspect, resource or file", o.Place)
	}
	for _, w := range o.Faults {
		switch o.Mode {
		case "", "next":
			f.Next(w.fault())
		case "always":
			f.Always(w.fault())
		case "chance":
			f.Chance(o.Chance, w.fault())
		default:
			return fmt.Errorf("unknown mode %q: next, always or chance", o.Mode)
		}
	}
	return nil
}
