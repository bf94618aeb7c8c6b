package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"pleo-sidecar/tokens"
)

// importToken installs the refresh token on standard input.
func importToken(ctx context.Context, in *invocation) error {
	c, err := in.load()
	if err != nil {
		return err
	}
	name := cmp.Or(in.operand, c.Connections.Default)
	if !tokens.ValidConnection(name) { // not repeated: it may be the token
		return usage("import: a connection name is 1 to 63 of a-z, 0-9, - and _, beginning and ending with a letter or digit")
	}
	refresh, err := readToken(in)
	if err != nil {
		return err
	}
	s, err := openLasting(c.Store)
	if err != nil {
		return err
	}
	all, err := newConnections(c, s, nil, nil)
	if err != nil {
		return err
	}
	install, done := all.Import, "installed"
	if in.replace {
		install = all.Replace
	}
	rec, err := s.load(ctx, name)
	if err != nil && !errors.Is(err, tokens.ErrNotFound) {
		return err
	}
	if fp := tokens.FingerprintOf(refresh); rec.Living() && (fp == rec.Root || fp == rec.Current || fp == rec.Previous) {
		done = "left alone: the connection already stands on its grant"
	}
	if err := errors.Join(install(ctx, name, refresh), all.Close(ctx)); err != nil {
		return clientRejected(err)
	}
	_, err = fmt.Fprintf(in.stdout, "connection %q: refresh token %s %s\n", name, tokens.ShortFingerprint(refresh), done)
	return err
}

// clientRejected makes a refusal of our client by the authorization server the
// error that it is to a Source.
func clientRejected(err error) error {
	if failed, ok := errors.AsType[*tokens.EndpointError](err); ok && failed.Class == tokens.ClientRefused {
		return fmt.Errorf("%w: %w", tokens.ErrClientRejected, err)
	}
	return err
}

// readToken reads one line that is one token. No error repeats any of it.
func readToken(in *invocation) (tokens.Secret, error) {
	const longest = 64 << 10 // bytes; tokens seen have up to some thousand
	terminal := false
	if f, ok := in.stdin.(*os.File); ok {
		info, err := f.Stat()
		terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	if terminal {
		_, _ = fmt.Fprint(in.stderr, "refresh token (it shows as you type): ")
	}
	r := bufio.NewReader(io.LimitReader(in.stdin, longest+1))
	line, err := r.ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return tokens.Secret{}, fmt.Errorf("read refresh token: %w", err)
	}
	token := strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
	more := false
	if !terminal {
		_, err := r.Peek(1)
		more = err == nil
	}
	switch {
	case token == "":
		return tokens.Secret{}, usage("import: standard input is empty: it takes the refresh token")
	case more || len(line) > longest || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return tokens.Secret{}, usage("import: standard input must be one refresh token on one line")
	}
	return tokens.NewSecret(token), nil
}

// connectionStatus is what status tells of a connection.
type connectionStatus struct {
	Connection  string    `json:"connection"`
	State       string    `json:"state"` // of tokens.State, or none, or unreadable
	Version     uint64    `json:"version"`
	Generation  uint64    `json:"generation"`
	InDoubt     bool      `json:"in_doubt"`
	Token       string    `json:"token"` // fingerprint of the access token, "" for none
	ExpiresAt   time.Time `json:"expires_at,omitzero"`
	RefreshedAt time.Time `json:"refreshed_at,omitzero"`
	Reason      string    `json:"reason"`
}

func statusOf(e entry) connectionStatus {
	r := e.record
	st := connectionStatus{
		Connection: e.name, State: string(r.State), Version: r.Version, Generation: r.Generation,
		InDoubt: r.Doubt, Token: r.Token.String(), RefreshedAt: r.Token.Issued(), Reason: r.Reason,
	}
	if st.Token != "" {
		st.ExpiresAt = r.Token.End()
	}
	if e.err != nil {
		st.State, st.Reason = "unreadable", plain(e.err)
	}
	return st
}

// status shows every connection. Its error tells which of them need a person.
func status(ctx context.Context, in *invocation) error {
	c, err := in.load("store", "connections")
	if err != nil {
		return err
	}
	s, err := openLasting(c.Store)
	if err != nil {
		return err
	}
	entries, err := s.survey(ctx)
	if err != nil {
		return err
	}
	if len(entries) == 0 {
		entries = []entry{{name: c.Connections.Default, record: tokens.Record{State: "none", Reason: "no grant yet"}}}
	}
	var wrong []error
	all := make([]connectionStatus, len(entries))
	for i, e := range entries {
		all[i] = statusOf(e)
		unmade := e.record.State == "none" && c.Connections.SeedRefreshToken.IsZero()
		if e.record.State == tokens.StateLoginRequired || unmade {
			e.err = fmt.Errorf("connection %q: %w", e.name, tokens.ErrLoginRequired)
		}
		wrong = append(wrong, e.err)
	}
	if in.json {
		out := json.NewEncoder(in.stdout)
		out.SetIndent("", "  ")
		err = out.Encode(all)
	} else {
		err = writeTable(in.stdout, all, time.Now())
	}
	return errors.Join(append(wrong, err)...)
}

func writeTable(w io.Writer, all []connectionStatus, now time.Time) error {
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
