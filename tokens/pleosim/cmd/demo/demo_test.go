package main

import (
	"errors"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"pleo-sidecar/tokens/pleosim"
)

// asChild makes this test program one of the programs that a demo starts.
const asChild = "DEMO_TEST_AS_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(asChild) {
	case "":
		os.Exit(m.Run())
	case "obeys":
		ended := make(chan os.Signal, 1)
		signal.Notify(ended, syscall.SIGTERM)
		_, _ = os.Stdout.WriteString("ready\n")
		<-ended
	case "fails":
		_, _ = os.Stdout.WriteString("ready\nno such key\n")
		os.Exit(3)
	}
}

// startChild starts this test program as a child and waits until it speaks.
func startChild(t *testing.T, how string) *child {
	t.Helper()
	t.Setenv(asChild, how)
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	said := make(chan string, 10)
	c, err := start(func(line string) { said <- line }, own)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.end() })
	if line, err := await(t.Context(), c, said); err != nil || line != "ready" {
		t.Fatalf("got %q, %v; want ready", line, err)
	}
	return c
}

func TestChildIsGoneAfterItsEnd(t *testing.T) {
	c := startChild(t, "obeys")
	pid := c.cmd.Process.Pid
	if err := c.end(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d: got %v, want none", pid, err)
	}
}

func TestChildThatFailedShowsWhatItSaid(t *testing.T) {
	c := startChild(t, "fails")
	<-c.done
	err := c.end()
	if err == nil || !strings.Contains(err.Error(), "no such key") {
		t.Errorf("got %v, want the last lines of the child", err)
	}
}

func TestSettingsOfAnotherSidecarDoNotReachTheDemo(t *testing.T) {
	t.Setenv("PLEO_SIDECAR_LISTEN", "127.0.0.1:1")
	for _, entry := range environment() {
		if strings.HasPrefix(entry, "PLEO_SIDECAR_") {
			t.Errorf("%s is passed on", entry)
		}
	}
}

func TestLinesAreCutWhereverTheyArrive(t *testing.T) {
	var heard []string
	l := lines{hear: func(line string) { heard = append(heard, line) }}
	for _, piece := range []string{"o", "ne\ntw", "o\n\nthree"} {
		if _, err := l.Write([]byte(piece)); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Join(heard, "|"); got != "one|two|" {
		t.Errorf("got %q, want one|two|", got)
	}
}

func TestRotationIsSaidInPlainWords(t *testing.T) {
	rows := map[string]struct {
		record record
		want   string
	}{
		"the first": {record{Reason: "login", Token: "aaaa", Duration: 0.0042}, "first token aaaa, for the refresh token that was imported, in 4.2ms"},
		"a 401":     {record{Reason: "401", TokenFrom: "aaaa", Token: "bbbb", Duration: 1}, "token aaaa replaced by bbbb after a 401 from Pleo, in 1s"},
		"expiry":    {record{Reason: "expiry", TokenFrom: "aaaa", Token: "bbbb"}, "token aaaa replaced by bbbb ahead of its end, in 0s"},
		"another":   {record{Reason: "spool", TokenFrom: "aaaa", Token: "bbbb"}, "token aaaa replaced by bbbb reason: spool, in 0s"},
	}
	for name, row := range rows {
		if got := rotation(row.record); got != row.want {
			t.Errorf("%s: got %q, want %q", name, got, row.want)
		}
	}
}

// kept is a ledger in which each refresh token was presented so many times.
func kept(times ...int) pleosim.Ledger {
	var grant pleosim.GrantLine
	for _, n := range times {
		grant.RefreshTokens = append(grant.RefreshTokens, pleosim.RefreshLine{Presented: make([]pleosim.Presentation, n)})
	}
	return pleosim.Ledger{Grants: []pleosim.GrantLine{grant}}
}

func TestVerdictNamesEachBrokenPromise(t *testing.T) {
	good := tally{served: 40}
	revoked := kept(1, 0)
	revoked.Grants[0].Revoked = pleosim.RevokedReuse
	rows := map[string]struct {
		total  tally
		ledger pleosim.Ledger
		want   string // "" for none
	}{
		"all well":           {good, kept(1, 1, 0), ""},
		"a 401 seen":         {tally{served: 40, bad: map[string]int{"401": 2, "503": 3}}, kept(1, 0), `callers saw 3 times "503", 2 times "401"`},
		"nothing served":     {tally{}, kept(1, 0), "no call was served"},
		"presented twice":    {good, kept(1, 2, 0), "1 refresh tokens were presented more than once"},
		"the grant is lost":  {good, revoked, pleosim.RevokedReuse},
		"a rule of Pleo's":   {good, pleosim.Ledger{Violations: []pleosim.Violation{{Kind: pleosim.WrongHost}}}, string(pleosim.WrongHost)},
		"nonsense was shown": {good, pleosim.Ledger{Tally: pleosim.Tally{UnknownRefresh: 1}}, "never issued"},
	}
	for name, row := range rows {
		told := tale{out: new(strings.Builder), total: row.total, ledger: row.ledger}
		err := told.verdict()
		switch {
		case row.want == "" && err != nil:
			t.Errorf("%s: got %v, want none", name, err)
		case row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)):
			t.Errorf("%s: got %v, want %q", name, err, row.want)
		}
	}
}

func TestTallyKeepsTheWorst(t *testing.T) {
	var a app
	a.note("", time.Millisecond)
	a.note("401", time.Second)
	sum := a.take()
	a.note("401", 2*time.Millisecond)
	sum.add(a.take())
	if got, want := sum.String(), `1 calls served, and callers saw 2 times "401", the slowest took 1s`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// leaver is a reader that has gone.
type leaver struct{}

func (leaver) Write([]byte) (int, error) { return 0, syscall.EPIPE }

func TestTaleEndsWhenNobodyReads(t *testing.T) {
	told := tale{out: leaver{}}
	ended := false
	told.stopped = func() { ended = true }
	told.line("said to nobody")
	if !ended {
		t.Error("the tale goes on")
	}
}
