package tokens

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var plainFields = cmp.Options{
	cmpopts.IgnoreFields(Record{}, "Token", "Seen"), cmpopts.EquateEmpty(),
}

func TestRecordHoldsNoTokenInTheClear(t *testing.T) {
	rec := Record{
		Version: 1, State: StateOK, Sealed: []byte("sealed"),
		Token: NewToken(Pair{Access: NewSecret("in-the-clear"), Refresh: NewSecret("in-the-clear")}),
	}
	data, err := encodeRecord("acme", rec)
	if err != nil || strings.Contains(string(data), "clear") || strings.Contains(string(data), "redacted") {
		t.Errorf("encodeRecord = %s, %v", data, err)
	}
}

func TestRecordTooLargeToReadIsNotWritten(t *testing.T) {
	rec := Record{Version: 1, State: StateOK, Sealed: make([]byte, maxRecord)}
	if _, err := encodeRecord("acme", rec); err == nil {
		t.Error("a record of more than a mebibyte is encoded")
	}
}

func FuzzRecordComesBackWhole(f *testing.F) {
	f.Add("run", "reason <&> \u2028", "pod", uint64(1), int64(-1), []byte{0, 255}, true)
	f.Fuzz(func(t *testing.T, run, reason, pod string, n uint64, epoch int64, sealed []byte, doubt bool) {
		want := Record{
			Version: max(n, 1), Attempt: "attempt", Run: valid(run), State: StateClaimed, Doubt: doubt,
			Root: "root", Epoch: epoch, Generation: n, Current: "current", Previous: "previous",
			Claim: Claim{ID: "id", Pod: valid(pod)}, Tries: int(n % 100), Client: "client",
			Reason: valid(reason), Sealed: sealed,
		}
		data, err := encodeRecord("acme", want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeRecord("acme", data)
		if err != nil {
			t.Fatalf("decode what was encoded: %v\n%s", err, data)
		}
		if diff := cmp.Diff(want, got, plainFields); diff != "" {
			t.Error(diff)
		}
	})
}

func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// FuzzDecodeRecord holds that nothing is decoded that would be written otherwise,
// and that no error repeats what it read.
func FuzzDecodeRecord(f *testing.F) {
	data, err := encodeRecord("acme", Record{Version: 1, Attempt: "a", State: StateOK, Sealed: []byte{1}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"format":1,"connection":"acme","version":1,"state":"ok"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		rec, err := decodeRecord("acme", data)
		if err != nil {
			if rec.Exists() {
				t.Errorf("an error and a record: %v", err)
			}
			return
		}
		again, err := encodeRecord("acme", rec)
		if err != nil || !sameJSON(data, again) {
			t.Errorf("read\n%s\nwould be written\n%s (%v)", data, again, err)
		}
	})
}
