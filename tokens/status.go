package tokens

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// Surveyed is one connection as a store shows it.
type Surveyed struct {
	Connection string
	Record     Record // zero for none
	Err        error  // why it could not be loaded; nil otherwise
}

// Survey loads every connection of store once, in the order in which index lists
// them. One that cannot be loaded is there with its error; the error of Survey
// itself is that there is no list. Both name the store if index is a
// fmt.Stringer, as File and Memory are.
func Survey(ctx context.Context, store Store, index Index) ([]Surveyed, error) {
	where := ""
	if s, ok := index.(fmt.Stringer); ok {
		where = " from " + s.String()
	}
	names, err := index.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list connections%s: %w", where, err)
	}
	all := make([]Surveyed, len(names))
	for i, name := range names {
		rec, err := store.Load(ctx, name)
		if err != nil {
			err = fmt.Errorf("load connection %q%s: %w", name, where, err)
		}
		all[i] = Surveyed{name, rec, err}
	}
	return all, nil
}

// Startable returns why a process must not start on these connections: there are
// some that cannot be loaded, and none that can and holds a pair. With a wrong
// key every call would fail, and a person would log in again for nothing.
// Otherwise it gives, in broken, why some of them cannot be loaded.
func Startable(all []Surveyed) (broken []error, err error) {
	living := false
	for _, s := range all {
		if s.Err != nil {
			broken = append(broken, s.Err)
		}
		living = living || s.Err == nil && s.Record.Living()
	}
	if !living && len(broken) > 0 {
		return nil, broken[0]
	}
	return broken, nil
}

// Status is what is told of a connection: nothing in it is secret.
type Status struct {
	Connection  string    `json:"connection"`
	State       string    `json:"state"` // a State, or none, or unreadable
	Version     uint64    `json:"version"`
	Generation  uint64    `json:"generation"`
	InDoubt     bool      `json:"in_doubt"`
	Token       string    `json:"token"` // fingerprint of the access token, "" for none
	ExpiresAt   time.Time `json:"expires_at,omitzero"`
	RefreshedAt time.Time `json:"refreshed_at,omitzero"`
	Reason      string    `json:"reason"` // of a state in which no token is given, "" for others
}

// Status returns the connection without its secrets.
func (s Surveyed) Status() Status {
	r := s.Record
	st := Status{
		Connection: s.Connection, State: string(r.State), Version: r.Version, Generation: r.Generation,
		InDoubt: r.Doubt, Token: r.Token.String(), RefreshedAt: r.Token.Issued(), Reason: r.Reason,
	}
	if st.Token != "" {
		st.ExpiresAt = r.Token.End()
	}
	switch {
	case s.Err != nil:
		// The prefix of a sentinel helps who reads code.
		st.State, st.Reason = "unreadable", strings.ReplaceAll(s.Err.Error(), ": tokens: ", ": ")
	case !r.Exists():
		st.State, st.Reason = "none", "no grant yet"
	}
	return st
}

// Trouble returns what keeps the connection from working until a person acts: it
// cannot be loaded, or it is an ErrLoginRequired; nil for nothing.
func (s Surveyed) Trouble() error {
	if s.Err == nil && (!s.Record.Exists() || s.Record.State == StateLoginRequired) {
		return fmt.Errorf("connection %q: %w", s.Connection, ErrLoginRequired)
	}
	return s.Err
}

// WriteTable writes all as a table for people, in which times count from now.
func WriteTable(w io.Writer, all []Status, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "CONNECTION\tSTATE\tVERSION\tGENERATION\tEXPIRES IN\tREFRESHED\tREASON")
	for _, st := range all {
		expires, refreshed := "-", "-"
		if !st.ExpiresAt.IsZero() {
			expires = max(st.ExpiresAt.Sub(now).Round(time.Second), 0).String()
		}
		if !st.RefreshedAt.IsZero() {
			refreshed = max(now.Sub(st.RefreshedAt).Round(time.Second), 0).String() + " ago"
		}
		if st.InDoubt {
			st.State += ", in doubt"
		}
		_, _ = fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%s\t%s\t%s\n", st.Connection, st.State, st.Version, st.Generation,
			expires, refreshed, cmp.Or(st.Reason, "-"))
	}
	return t.Flush()
}
