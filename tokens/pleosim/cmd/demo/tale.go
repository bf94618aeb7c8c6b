package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"pleo-sidecar/tokens/pleosim"
)

const (
	// early is the age at which a token is ended by hand: past the five seconds
	// of the sidecar's brake, well before it is refreshed ahead of its end.
	early = 5300 * time.Millisecond
	// limit bounds a demo with -once. Four rotations take 19 s.
	limit = 60 * time.Second
	// epilogue lets calls be seen that follow the last rotation.
	epilogue = time.Second
)

// tale says what happens, and keeps count.
type tale struct {
	out   io.Writer
	stage *stage
	app   app

	stopped   context.CancelFunc // nobody reads us any more
	rotations int
	total     tally
	ledger    pleosim.Ledger
	errs      []error
}

func newTale(out io.Writer, s *stage) *tale { return &tale{out: out, stage: s} }

func (t *tale) opening() {
	t.printf("pleo-sidecar demo: an access token lives %v, and each refresh kills the pair before it.\n\n", tokenLife)
	t.printf("  Pleo      %s  simulated and strict: a refresh token presented twice ends the grant\n", t.stage.api)
	t.printf("  sidecar   %s  the real program, its tokens sealed in a temporary folder\n", t.stage.listen)
	t.printf("  callers   %d, about %.0f calls a second, without a token or a secret\n\n",
		callers, callers/pause.Seconds())
}

func (t *tale) invitation() {
	t.printf("Try it from another terminal; Ctrl-C ends the demo.\n\n")
	t.printf("  curl -i %s/v2/employees           a call as the app sends it\n", t.stage.listen)
	t.printf("  curl -X POST %s/sim/expire        end the token at Pleo, 5 s or more after it was replaced\n", t.stage.auth)
	t.printf("  curl %s/sim/ledger                each refresh token, and how often Pleo saw it\n", t.stage.auth)
	t.printf("  curl %s/metrics                   what the sidecar counts\n\n", t.stage.admin)
}

// tell lets the callers work and says what happens, until ctx ends or, if the
// tale ends by itself, after so many rotations. Every second token is ended
// ahead of its time.
func (t *tale) tell(ctx context.Context, ends bool) {
	ctx, t.stopped = context.WithCancel(ctx)
	defer t.stopped()
	if ends {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	working, stop := context.WithCancel(ctx)
	worked := make(chan struct{})
	go func() {
		defer close(worked)
		t.app.work(working, t.stage.listen)
	}()
	t.follow(ctx, ends)
	stop()
	<-worked
	t.total.add(t.app.take())

	if ends && t.rotations < once {
		t.wrong("the token was replaced %d times, not %d", t.rotations, once)
	}
	ledger, err := t.stage.ledger()
	if err != nil {
		t.wrong("read the ledger: %w", err)
	}
	t.ledger = ledger
}

// follow says the events of the sidecar as they come.
func (t *tale) follow(ctx context.Context, ends bool) {
	spoil, last := stopped(), stopped()
	defer spoil.Stop()
	defer last.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-last.C:
			return
		case <-t.stage.sidecar.done:
			t.wrong("the sidecar ended before it was told to")
			return
		case <-t.stage.pleo.done:
			t.wrong("the simulated Pleo ended before it was told to")
			return
		case <-spoil.C:
			t.line("Pleo ends the token early: it answers 401 until there is another")
			if err := t.stage.expire(); err != nil {
				t.wrong("expire the token: %w", err)
			}
		case r := <-t.stage.events:
			if !t.event(r) {
				continue
			}
			spoil.Stop()
			if t.rotations%2 == 1 {
				spoil.Reset(early)
			}
			if ends && t.rotations == once {
				last.Reset(epilogue)
			}
		}
	}
}

// stopped returns a timer that does not run.
func stopped() *time.Timer {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	return timer
}

// event says one event, and reports whether it was a rotation.
func (t *tale) event(r record) bool {
	switch {
	case r.Msg == "refresh" && r.Result == "rotated":
		t.rotations++
		since := t.app.take()
		t.total.add(since)
		t.line("%s", rotation(r))
		if t.rotations > 1 {
			t.printf("          since the last: %s\n", since)
		}
		return true
	case r.Level == "WARN" || r.Level == "ERROR":
		t.line("the sidecar says: %s", r.line)
	}
	return false
}

// rotation says a refresh in plain words.
func rotation(r record) string {
	took := time.Duration(r.Duration * float64(time.Second)).Round(time.Millisecond / 10)
	if r.TokenFrom == "" {
		return fmt.Sprintf("first token %s, for the refresh token that was imported, in %v", r.Token, took)
	}
	why, known := map[string]string{
		"expiry":     "ahead of its end",
		"401":        "after a 401 from Pleo",
		"keep_alive": "so that its refresh token does not age out",
	}[r.Reason]
	if !known {
		why = "reason: " + r.Reason
	}
	return fmt.Sprintf("token %s replaced by %s %s, in %v", r.TokenFrom, r.Token, why, took)
}

// String says what callers saw.
func (t tally) String() string {
	seen := "none saw a 401"
	if len(t.bad) > 0 {
		seen = "and callers saw " + t.complaints()
	}
	return fmt.Sprintf("%d calls served, %s, the slowest took %v", t.served, seen, t.slowest.Round(time.Millisecond))
}

// complaints lists what callers saw instead of an answer, the most frequent first.
func (t tally) complaints() string {
	kinds := slices.SortedFunc(maps.Keys(t.bad), func(a, b string) int {
		return cmp.Or(cmp.Compare(t.bad[b], t.bad[a]), cmp.Compare(a, b))
	})
	for i, kind := range kinds {
		kinds[i] = fmt.Sprintf("%d times %q", t.bad[kind], kind)
	}
	return strings.Join(kinds, ", ")
}

// verdict sums up. Its error says what should not have happened.
func (t *tale) verdict() error {
	presented, twice := presentations(t.ledger)
	refused := 0
	for _, n := range t.ledger.APIRefused {
		refused += n
	}
	t.printf("\n  callers   %s\n", t.total)
	t.printf("  Pleo      answered %d calls with 401 because their token was dead; the sidecar sent them again\n", refused)
	t.printf("  tokens    replaced %d times; %d refresh tokens presented, %d of them more than once\n\n",
		t.rotations, presented, twice)

	if len(t.total.bad) > 0 {
		t.wrong("callers saw %s", t.total.complaints())
	}
	if t.total.served == 0 {
		t.wrong("no call was served")
	}
	if twice > 0 {
		t.wrong("%d refresh tokens were presented more than once", twice)
	}
	if err := t.ledger.Clean(); err != nil {
		t.errs = append(t.errs, err)
	}
	return errors.Join(t.errs...)
}

// presentations counts the refresh tokens that reached the token endpoint, and
// those that did so more than once.
func presentations(l pleosim.Ledger) (presented, twice int) {
	for _, grant := range l.Grants {
		for _, token := range grant.RefreshTokens {
			if len(token.Presented) > 0 {
				presented++
			}
			if len(token.Presented) > 1 {
				twice++
			}
		}
	}
	return presented, twice
}

func (t *tale) wrong(format string, args ...any) {
	t.errs = append(t.errs, fmt.Errorf(format, args...))
}

// line says one thing, with the time of day.
func (t *tale) line(format string, args ...any) {
	t.printf(time.Now().Format("15:04:05")+"  "+format+"\n", args...)
}

// printf writes to the reader, and ends the tale when there is none any more.
func (t *tale) printf(format string, args ...any) {
	if _, err := fmt.Fprintf(t.out, format, args...); err != nil && t.stopped != nil {
		t.stopped()
	}
}
