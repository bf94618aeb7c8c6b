package tokens

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// surveyed returns a survey of a folder with the connections a, sealed with the
// second key, and b, sealed with the first, as who has the given keys sees it.
func surveyed(t *testing.T, keys ...byte) []Surveyed {
	t.Helper()
	f, err := NewFile(filepath.Join(t.TempDir(), "tokens"))
	mustDo(t, err)
	for name, key := range map[string]byte{"a": 2, "b": 1} {
		store := Seal(f, testRing(t, key))
		mustDo(t, store.Save(t.Context(), name, sealable(t, store, name)))
	}
	all, err := Survey(t.Context(), Seal(f, testRing(t, keys...)), f)
	mustDo(t, err)
	if len(all) != 2 || all[0].Connection != "a" || all[1].Connection != "b" {
		t.Fatalf("surveyed %v", all)
	}
	return all
}

func TestSurveyShowsOneDamagedRecordBesideTheOthers(t *testing.T) {
	all := surveyed(t, 1)
	if all[1].Err != nil || all[1].Record.Token.Access().Reveal() != "access" {
		t.Errorf("b: %v, %v", all[1].Record.Token, all[1].Err)
	}
	err := all[0].Err
	if !errors.Is(err, ErrSealed) || !strings.HasPrefix(err.Error(), `load connection "a" from folder "`) {
		t.Errorf("a: %v", err)
	}
	if got := all[0].Status(); got.State != "unreadable" ||
		got.Reason != strings.Replace(err.Error(), "tokens: ", "", 1) {
		t.Errorf("a: status %+v", got)
	}
}

// unlisted is an Index of a store that is away.
type unlisted struct{ Index }

func (unlisted) List(context.Context) ([]string, error) { return nil, errDamaged }

func TestSurveyOfAStoreThatIsAwayIsAnError(t *testing.T) {
	all, err := Survey(t.Context(), NewMemory(), unlisted{})
	if all != nil || !errors.Is(err, errDamaged) || err.Error() != "list connections: record is damaged" {
		t.Errorf("got %v, %v", all, err)
	}
}

func TestStoreOfWhichNoPairOpensIsNotStartable(t *testing.T) {
	broken := Surveyed{Connection: "a", Err: errDamaged}
	wiped := Surveyed{Connection: "b", Record: Record{Version: 1, State: StateLoginRequired}}
	living := Surveyed{Connection: "c", Record: Record{Version: 1, State: StateClaimed}}
	for name, test := range map[string]struct {
		all       []Surveyed
		startable bool
		broken    int
	}{
		"empty":                        {nil, true, 0},
		"nothing but wiped":            {[]Surveyed{wiped}, true, 0},
		"one opens":                    {[]Surveyed{broken, wiped, living, broken}, true, 2},
		"none opens":                   {[]Surveyed{broken, broken}, false, 0},
		"what opens has no pair to it": {[]Surveyed{wiped, broken}, false, 0},
	} {
		told, err := Startable(test.all)
		if (err == nil) != test.startable || err != nil && !errors.Is(err, errDamaged) || len(told) != test.broken {
			t.Errorf("%s: got %v, %v", name, told, err)
		}
	}
	if _, err := Startable(surveyed(t, 3)); !errors.Is(err, ErrSealed) {
		t.Errorf("with a wrong key: %v", err)
	}
}

func TestTroubleIsWhatAPersonMustMend(t *testing.T) {
	for name, test := range map[string]struct {
		of   Surveyed
		want error
	}{
		"a grant that works":    {Surveyed{Record: Record{Version: 1, State: StateOK}}, nil},
		"a refused client":      {Surveyed{Record: Record{Version: 1, State: StateClientRejected}}, nil},
		"forgotten on purpose":  {Surveyed{Record: Record{Version: 1, State: StateForgotten}}, nil},
		"a dead grant":          {Surveyed{Record: Record{Version: 1, State: StateLoginRequired}}, ErrLoginRequired},
		"no grant":              {Surveyed{}, ErrLoginRequired},
		"one that is not known": {Surveyed{Err: errDamaged}, errDamaged},
	} {
		if err := test.of.Trouble(); !errors.Is(err, test.want) || (err == nil) != (test.want == nil) {
			t.Errorf("%s: got %v, want %v", name, err, test.want)
		}
	}
}

func TestStatusHasNoSecret(t *testing.T) {
	st := surveyed(t, 1, 2)[0].Status()
	st.ExpiresAt, st.RefreshedAt = st.ExpiresAt.UTC(), st.RefreshedAt.UTC()
	got, err := json.Marshal(st)
	mustDo(t, err)
	want := `{"connection":"a","state":"ok","version":1,"generation":3,"in_doubt":false,` +
		`"token":"` + ShortFingerprint(NewSecret("access")) + `","expires_at":"1970-01-01T00:33:20.000000002Z",` +
		`"refreshed_at":"1970-01-01T00:16:40.000000001Z","reason":""}`
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestTableShowsEveryStatusInOneLine(t *testing.T) {
	now := time.Unix(10_000, 0)
	living := Record{Version: 7, State: StateOK, Doubt: true, Generation: 2, Token: NewToken(Pair{
		Access: NewSecret("access"), Issued: now.Add(-90 * time.Second), End: now.Add(time.Hour),
	})}
	seeded := firstRecord(NewSecret("refresh"), now)
	seeded.Version = 1
	var out strings.Builder
	mustDo(t, WriteTable(&out, []Status{
		Surveyed{Connection: "acme", Record: living}.Status(),
		Surveyed{Connection: "seeded", Record: seeded}.Status(),
		Surveyed{Connection: "ended", Record: living.wipe(StateLoginRequired, "revoked")}.Status(),
		Surveyed{Connection: "default"}.Status(),
	}, now))
	want := `
CONNECTION  STATE           VERSION  GENERATION  EXPIRES IN  REFRESHED  REASON
acme        ok, in doubt    7        2           1h0m0s      1m30s ago  -
seeded      ok              1        0           -           0s ago     -
ended       login_required  7        2           -           -          revoked
default     none            0        0           -           -          no grant yet
`
	if got := "\n" + out.String(); got != want {
		t.Errorf("got%s\nwant%s", got, want)
	}
}
