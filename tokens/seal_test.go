package tokens

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// Keys of the tests: 32 bytes of one value each.
func testKey(b byte) Secret {
	return NewSecret(base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{b}, keySize)))
}

func testRing(t testing.TB, keys ...byte) *Keyring {
	t.Helper()
	var secrets []Secret
	for _, b := range keys {
		secrets = append(secrets, testKey(b))
	}
	ring, err := NewKeyring(secrets...)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// sealable returns a living record with a pair, above version 0 of store.
func sealable(t *testing.T, store Store, connection string) Record {
	t.Helper()
	rec, err := store.Load(t.Context(), connection)
	if err != nil && !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	return Record{
		Version: rec.Seen.Version + 1, Attempt: rand.Text(), Seen: rec.Seen,
		State: StateOK, Root: "root", Epoch: 5, Generation: 3,
		Token: NewToken(Pair{
			Access: NewSecret("access"), Refresh: NewSecret("refresh"),
			Issued: time.Unix(1000, 1), End: time.Unix(2000, 2), Scope: "scope",
		}),
	}
}

func TestStoreUnderASealSeesNoToken(t *testing.T) {
	m := NewMemory()
	store := Seal(m, testRing(t, 1))
	rec := sealable(t, store, "acme")
	mustDo(t, store.Save(t.Context(), "acme", rec))
	if rec.Token.IsZero() || rec.Sealed != nil {
		t.Error("Save through a seal changed the caller's record")
	}
	inside := m.records["acme"]
	if !inside.Token.IsZero() || len(inside.Sealed) == 0 {
		t.Errorf("the store holds token %v and %d sealed bytes", inside.Token, len(inside.Sealed))
	}
	opened, err := store.Load(t.Context(), "acme")
	if err != nil || !opened.Token.Refresh().Equal(rec.Token.Refresh()) || opened.Sealed != nil || opened.Seen.Version != 1 {
		t.Errorf("Load = %v, seen %+v, %v", opened.Token, opened.Seen, err)
	}
}

// TestSealedPairOpensOnlyInItsPlace moves a good blob under every other record
// that it must not speak for.
func TestSealedPairOpensOnlyInItsPlace(t *testing.T) {
	for what, move := range map[string]func(r *Record){
		"an older pair under a newer version": func(r *Record) { r.Version++ },
		"a newer pair under an older version": func(r *Record) { r.Version-- },
		"another epoch":                       func(r *Record) { r.Epoch++ },
		"another generation":                  func(r *Record) { r.Generation++ },
		"another root":                        func(r *Record) { r.Root = "other" },
		"another connection":                  func(*Record) {},
	} {
		m := NewMemory()
		store := Seal(m, testRing(t, 1))
		rec := sealable(t, store, "acme")
		rec.Version = 7
		mustDo(t, store.Save(t.Context(), "acme", rec))
		moved, to := m.records["acme"], "acme"
		if move(&moved); what == "another connection" {
			to = "acme2"
		}
		m.records[to] = moved
		got, err := store.Load(t.Context(), to)
		if !errors.Is(err, ErrSealed) || errors.Is(err, ErrNotFound) || !got.Token.IsZero() {
			t.Errorf("%s: Load = %v, %v; want ErrSealed", what, got.Token, err)
		}
	}
}

func TestDamagedSealDoesNotOpen(t *testing.T) {
	ring := testRing(t, 1)
	rec := sealable(t, NewMemory(), "acme")
	blob, err := ring.seal(forStore, "acme", rec)
	mustDo(t, err)
	try := func(what string, blob []byte) {
		rec.Sealed = blob
		if _, err := ring.open(forStore, "acme", rec); !errors.Is(err, ErrSealed) {
			t.Errorf("%s: open = %v, want ErrSealed", what, err)
		}
	}
	for bit := range 8 * len(blob) {
		flipped := bytes.Clone(blob)
		flipped[bit/8] ^= 1 << (bit % 8)
		try(fmt.Sprintf("bit %d flipped", bit), flipped)
	}
	for n := range len(blob) {
		try(fmt.Sprintf("cut to %d bytes", n), blob[:n])
	}
	try("a byte more", append(bytes.Clone(blob), 0))
}

func TestPlacesNeverLookAlike(t *testing.T) {
	a := place("ab", Record{Root: "c"})
	b := place("a", Record{Root: "bc"})
	if bytes.Equal(a, b) {
		t.Error("a letter moved from the connection to the root and nothing shows")
	}
}

func TestKeysAreReplacedWhileRecordsStand(t *testing.T) {
	m := NewMemory()
	before, between, after := Seal(m, testRing(t, 1)), Seal(m, testRing(t, 2, 1)), Seal(m, testRing(t, 2))
	rec := sealable(t, before, "acme")
	mustDo(t, before.Save(t.Context(), "acme", rec))
	if _, err := between.Load(t.Context(), "acme"); err != nil {
		t.Errorf("a ring with the former key behind = %v", err)
	}
	_, err := after.Load(t.Context(), "acme")
	id := testRing(t, 1).String()
	if !errors.Is(err, ErrSealed) || !strings.Contains(err.Error(), "sealed with a key that is not in the key ring (key id "+id+")") {
		t.Errorf("a ring without the key = %v, want the key id %s", err, id)
	}
	rec = sealable(t, between, "acme")
	mustDo(t, between.Save(t.Context(), "acme", rec))
	if _, err := after.Load(t.Context(), "acme"); err != nil {
		t.Errorf("the first key did not seal: %v", err)
	}
}

// TestLoginReplacesARecordThatCannotBeOpened holds the way out: Load tells what
// stands there, without the pair.
func TestLoginReplacesARecordThatCannotBeOpened(t *testing.T) {
	m := NewMemory()
	old, store := Seal(m, testRing(t, 1)), Seal(m, testRing(t, 2))
	mustDo(t, old.Save(t.Context(), "acme", sealable(t, old, "acme")))
	rec, err := store.Load(t.Context(), "acme")
	if !errors.Is(err, ErrSealed) || rec.Version != 1 || rec.Root != "root" || rec.Seen.Version != 1 || rec.Seen.Run == "" {
		t.Fatalf("Load = version %d of %q, seen %+v, %v", rec.Version, rec.Root, rec.Seen, err)
	}
	login := nextAfter(rec)
	login.Token = NewToken(Pair{Refresh: NewSecret("from a login")})
	mustDo(t, store.Save(t.Context(), "acme", login))
	if got, err := store.Load(t.Context(), "acme"); err != nil || got.Token.Refresh().Reveal() != "from a login" {
		t.Errorf("Load after the login = %v", err)
	}
}

func TestOnlyRecordsWithoutAPairGoUnsealed(t *testing.T) {
	for _, state := range []State{StateOK, StateClaimed, StateClientRejected, StateLoginRequired, StateForgotten} {
		m := NewMemory()
		store := Seal(m, testRing(t, 1))
		rec := sealable(t, store, "acme")
		rec.State, rec.Token = state, Token{}
		living := rec.Living()
		if err := store.Save(t.Context(), "acme", rec); (err != nil) != living {
			t.Errorf("Save of state %s without a pair = %v", state, err)
		}
		mustDo(t, m.Save(t.Context(), "acme", rec.withSeen(t, m)))
		if _, err := store.Load(t.Context(), "acme"); errors.Is(err, ErrSealed) != living {
			t.Errorf("Load of state %s without a pair = %v", state, err)
		}
	}
}

// withSeen returns r as one to be saved on what store holds.
func (r Record) withSeen(t *testing.T, store Store) Record {
	stored, _ := store.Load(t.Context(), "acme")
	r.Seen, r.Version = stored.Seen, stored.Version+1
	r.Attempt += "-again"
	return r
}

func TestSealsOfOnePairDiffer(t *testing.T) {
	ring := testRing(t, 1)
	rec := sealable(t, NewMemory(), "acme")
	one, err := ring.seal(forStore, "acme", rec)
	mustDo(t, err)
	two, err := ring.seal(forStore, "acme", rec)
	mustDo(t, err)
	if bytes.Equal(one[1+keyIDSize:], two[1+keyIDSize:]) {
		t.Error("a nonce was used twice")
	}
}

func TestSpoolAndStoreDoNotOpenEachOther(t *testing.T) {
	ring := testRing(t, 1)
	rec := sealable(t, NewMemory(), "acme")
	for from, to := range map[string]string{forStore: forSpool, forSpool: forStore} {
		var err error
		rec.Sealed, err = ring.seal(from, "acme", rec)
		mustDo(t, err)
		if _, err := ring.open(to, "acme", rec); !errors.Is(err, ErrSealed) {
			t.Errorf("sealed for the %s, opened for the %s: %v", from, to, err)
		}
		if _, err := ring.open(from, "acme", rec); err != nil {
			t.Errorf("sealed and opened for the %s: %v", from, err)
		}
	}
}

// formerSeal is the pair of sealable, sealed with testKey(1) by the first release.
func formerSeal(t testing.TB) []byte {
	t.Helper()
	blob, err := base64.StdEncoding.DecodeString("AQ47qP1TcgnS6tqkNLQGqUta93RBwoQC6uMH9h+aS19trPqRhV+j0wsFlxcTzv3fYh7fUUrdYr/y936RNFpkSZA8W97w4zSa56SfcgaeKa3Bt9AWqMXzecTTf7u3JUMxfj37KAt0Lg5yEJ15cgbLPqnvqVhicoS+fjH9NCa8WIyeV1E=")
	if err != nil {
		t.Fatal(err)
	}
	return blob
}

// TestSealsOfFormerReleasesOpen holds the format: records outlive programs.
func TestSealsOfFormerReleasesOpen(t *testing.T) {
	rec := sealable(t, NewMemory(), "acme")
	want := rec.Token
	rec.Sealed = formerSeal(t)
	got, err := testRing(t, 1).open(forStore, "acme", rec)
	if err != nil || !got.Access().Equal(want.Access()) || !got.Refresh().Equal(want.Refresh()) ||
		!got.Issued().Equal(want.Issued()) || !got.End().Equal(want.End()) || got.Scope() != want.Scope() {
		t.Errorf("open = %v until %v for %q, %v", got, got.End(), got.Scope(), err)
	}
}

func TestKeysThatAreNoneAreRefused(t *testing.T) {
	good := testKey(9)
	for what, keys := range map[string][]Secret{
		"no key":          {},
		"an empty key":    {good, {}},
		"16 bytes":        {good, NewSecret(base64.StdEncoding.EncodeToString(make([]byte, 16)))},
		"33 bytes":        {good, NewSecret(base64.StdEncoding.EncodeToString(make([]byte, 33)))},
		"hex":             {good, NewSecret(strings.Repeat("c0ffee00", 8))},
		"base64url":       {good, NewSecret(strings.Repeat("-_", 21) + "8=")},
		"no padding":      {good, NewSecret(strings.TrimRight(good.Reveal(), "="))},
		"stray bits":      {good, NewSecret(strings.TrimSuffix(testKey(8).Reveal(), "g=") + "h=")},
		"a space":         {good, NewSecret(good.Reveal() + " ")},
		"one key twice":   {testKey(1), good, testKey(1)},
		"trailing digits": {NewSecret(good.Reveal() + "AAAA")},
	} {
		_, err := NewKeyring(keys...)
		if err == nil {
			t.Errorf("%s is taken for a key ring", what)
			continue
		}
		for _, key := range keys {
			if text := key.Reveal(); len(text) > 8 && strings.Contains(err.Error(), text[:8]) {
				t.Errorf("%s: the error shows a key: %v", what, err)
			}
		}
		if len(keys) == 2 && !strings.Contains(err.Error(), "key 2") {
			t.Errorf("%s: the error does not say which key: %v", what, err)
		}
	}
}

func TestNewKeysDifferAndMakeARing(t *testing.T) {
	one, err := NewKey()
	mustDo(t, err)
	two, err := NewKey()
	mustDo(t, err)
	ring, err := NewKeyring(one, two)
	mustDo(t, err)
	if ids := strings.Fields(ring.String()); len(ids) != 2 || ids[0] == ids[1] || len(ids[0]) != 2*keyIDSize {
		t.Errorf("key ids %q", ids)
	}
}

func TestKeyringPrintsNoKey(t *testing.T) {
	ring := testRing(t, 0xab)
	raw := bytes.Repeat([]byte{0xab}, 4)
	forms := []string{
		string(raw), hex.EncodeToString(raw), fmt.Sprintf("%X", raw), strings.Trim(fmt.Sprint(raw), "[]"),
		base64.StdEncoding.EncodeToString(raw)[:5], "0xab, 0xab",
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, value := range []any{ring, *ring, ring.keys, struct{ k *Keyring }{ring}, struct{ k Keyring }{*ring}, Seal(NewMemory(), ring)} {
			text := fmt.Sprintf(verb, value)
			for _, form := range forms {
				if strings.Contains(text, form) {
					t.Errorf("%s of a %T shows a key: %s", verb, value, text)
				}
			}
		}
	}
}

func FuzzOpen(f *testing.F) {
	ring, genuine := testRing(f, 1), formerSeal(f)
	rec := Record{Version: 1, Root: "root", Epoch: 5, Generation: 3}
	f.Add(genuine)
	f.Add(genuine[:1+keyIDSize])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		rec := rec
		rec.Sealed = data
		token, err := ring.open(forStore, "acme", rec)
		if bytes.Equal(data, genuine) {
			mustDo(t, err)
			return
		}
		if !errors.Is(err, ErrSealed) || !token.IsZero() {
			t.Errorf("open of a forged seal = %v, %v", token, err)
		}
	})
}

func FuzzTokenSurvivesItsSeal(f *testing.F) {
	ring := testRing(f, 1)
	f.Add("access", "refresh", "scope", int64(0), int64(1))
	f.Add("\xff\x00", "\"\\\u2028", "", int64(-62135596800), int64(1)<<40)
	f.Fuzz(func(t *testing.T, access, refresh, scope string, issued, end int64) {
		rec := Record{Version: 1, State: StateOK, Token: NewToken(Pair{
			Access: NewSecret(access), Refresh: NewSecret(refresh), Scope: scope,
			Issued: time.Unix(issued, 5), End: time.Unix(end, 999_999_999),
		})}
		var err error
		rec.Sealed, err = ring.seal(forStore, "acme", rec)
		mustDo(t, err)
		got, err := ring.open(forStore, "acme", rec)
		mustDo(t, err)
		if want := rec.Token; !got.Access().Equal(want.Access()) || !got.Refresh().Equal(want.Refresh()) ||
			got.Scope() != scope || !got.Issued().Equal(want.Issued()) || !got.End().Equal(want.End()) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}
