package tokens

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestNewerOrdersByGrantThenGenerationThenVersion(t *testing.T) {
	rec := func(version uint64, root Fingerprint, epoch int64, generation uint64) Record {
		return Record{Version: version, Root: root, Epoch: epoch, Generation: generation}
	}
	for _, c := range []struct {
		name string
		a, b Record
		want bool
	}{
		{"none is older than any", rec(1, "r", 0, 0), Record{}, true},
		{"any is not older than none", Record{}, rec(1, "r", 0, 0), false},
		{"none and none", Record{}, Record{}, false},
		{"later version of one generation", rec(3, "r", 0, 1), rec(2, "r", 0, 1), true},
		{"equal", rec(3, "r", 0, 1), rec(3, "r", 0, 1), false},
		{"later generation at a lower version", rec(2, "r", 0, 2), rec(9, "r", 0, 1), true},
		{"higher version of an earlier generation", rec(9, "r", 0, 1), rec(2, "r", 0, 2), false},
		{"imported and seeded token are one grant", rec(2, "r", 0, 3), rec(5, "r", 77, 0), true},
		{"later grant at a lower version and generation", rec(1, "s", 5, 0), rec(9, "r", 4, 9), true},
		{"grants of one epoch: the store wins", rec(9, "s", 4, 9), rec(1, "r", 4, 0), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Newer(c.a, c.b); got != c.want {
				t.Errorf("Newer = %v, want %v", got, c.want)
			}
		})
	}
}

func TestEpochIsAboveAllThatIsKnown(t *testing.T) {
	now := time.UnixMilli(1000)
	if got := nextEpoch(now); got != 1000 {
		t.Errorf("epoch %d of nothing known, want the wall clock's 1000", got)
	}
	if got := nextEpoch(now, Record{Epoch: 5000}, Record{Epoch: 7}); got != 5001 {
		t.Errorf("epoch %d, want 5001", got)
	}
}

func TestSecretsNeverPrint(t *testing.T) {
	const canary = "canary-7Jq"
	token := NewToken(Pair{Access: NewSecret(canary), Refresh: NewSecret(canary), Issued: time.Now()})
	secret := NewSecret(canary)
	values := []any{
		secret, token, &secret, &token, []Secret{secret}, map[string]Token{"t": token},
		struct{ s Secret }{secret}, struct{ T Token }{token}, Record{Token: token}, &Record{Token: token},
		fmt.Errorf("wrapped: %v %v", secret, token),
	}
	for _, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			if out := fmt.Sprintf(verb, v); strings.Contains(out, canary) || strings.Contains(out, fmt.Sprintf("%x", canary)) {
				t.Errorf("%s of %T shows the secret", verb, v)
			}
		}
		if out, _ := json.Marshal(v); strings.Contains(string(out), canary) {
			t.Errorf("JSON of %T shows the secret", v)
		}
		var b strings.Builder
		slog.New(slog.NewJSONHandler(&b, nil)).Info("m", "v", v)
		slog.New(slog.NewTextHandler(&b, nil)).Info("m", "v", v)
		if strings.Contains(b.String(), canary) {
			t.Errorf("slog of %T shows the secret", v)
		}
	}
}

func TestConnectionNamesAreStrict(t *testing.T) {
	for name, want := range map[string]bool{
		"a": true, "acme": true, "a-b_c": true, "0": true, strings.Repeat("a", 63): true,
		"": false, "-a": false, "a-": false, "_a": false, "A": false, "a.b": false, "a/b": false, "a b": false,
		"ä": false, "a\x00": false, "{a}": false, "%40a": false, strings.Repeat("a", 64): false,
	} {
		if got := ValidConnection(name); got != want {
			t.Errorf("ValidConnection(%q) = %v, want %v", name, got, want)
		}
	}
}
