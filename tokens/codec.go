package tokens

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// recordFormat is the form of a record as bytes. A change of recordJSON needs
// another number: a program must refuse what it would read only in part.
const recordFormat = 1

// maxRecord bounds a record as bytes. Two tokens of 16 KiB take 60 KiB sealed;
// whatever is larger than this is not ours, and is neither written nor read.
const maxRecord = 1 << 20

// recordJSON is a record in a file: plain fields that a person can read, and
// the sealed pair. It has no place for a token in the clear.
type recordJSON struct {
	Format     int         `json:"format"`
	Connection string      `json:"connection"`
	Version    uint64      `json:"version"`
	Attempt    string      `json:"attempt"`
	Run        string      `json:"run"`
	State      State       `json:"state"`
	Doubt      bool        `json:"doubt"`
	Root       Fingerprint `json:"root"`
	Epoch      int64       `json:"epoch"`
	Generation uint64      `json:"generation"`
	Current    Fingerprint `json:"current"`
	Previous   Fingerprint `json:"previous"`
	ClaimID    string      `json:"claim_id"`
	ClaimPod   string      `json:"claim_pod"`
	Tries      int         `json:"tries"`
	Client     Fingerprint `json:"client"`
	Reason     string      `json:"reason"`
	Sealed     []byte      `json:"sealed"`
}

// encodeRecord returns rec as the bytes of a file. Seen and Token are left out.
// Text that is not UTF-8 is mended, which can only befall a reason or a pod.
func encodeRecord(connection string, rec Record) ([]byte, error) {
	data, err := json.MarshalIndent(recordJSON{
		Format: recordFormat, Connection: connection,
		Version: rec.Version, Attempt: rec.Attempt, Run: rec.Run,
		State: rec.State, Doubt: rec.Doubt,
		Root: rec.Root, Epoch: rec.Epoch, Generation: rec.Generation,
		Current: rec.Current, Previous: rec.Previous,
		ClaimID: rec.Claim.ID, ClaimPod: rec.Claim.Pod,
		Tries: rec.Tries, Client: rec.Client, Reason: rec.Reason,
		Sealed: rec.Sealed,
	}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode record: %w", err)
	}
	if len(data) >= maxRecord {
		return nil, fmt.Errorf("encode record: %d bytes, more than %d", len(data), maxRecord)
	}
	return append(data, '\n'), nil
}

// decodeRecord is the inverse of encodeRecord. It takes nothing but what
// encodeRecord made for this connection, white space aside: a field that is
// missing, unknown, twice there or of another type means that somebody else
// wrote the record, and guessing at a record can cost the grant. Its errors
// show nothing of data.
func decodeRecord(connection string, data []byte) (Record, error) {
	var r recordJSON
	if err := json.Unmarshal(data, &r); err != nil {
		return Record{}, errors.New("damaged: not a record in JSON")
	}
	switch {
	case r.Format != recordFormat:
		return Record{}, fmt.Errorf("written in format %d, readable is %d", r.Format, recordFormat)
	case r.Connection != connection:
		return Record{}, errors.New("damaged: record of another connection")
	case !r.State.Valid():
		return Record{}, errors.New("damaged: unknown state")
	case r.Version == 0:
		return Record{}, errors.New("damaged: no version")
	}
	rec := Record{
		Version: r.Version, Attempt: r.Attempt, Run: r.Run,
		State: r.State, Doubt: r.Doubt,
		Root: r.Root, Epoch: r.Epoch, Generation: r.Generation,
		Current: r.Current, Previous: r.Previous,
		Claim: Claim{ID: r.ClaimID, Pod: r.ClaimPod},
		Tries: r.Tries, Client: r.Client, Reason: r.Reason,
		Sealed: r.Sealed,
	}
	again, err := encodeRecord(connection, rec)
	if err != nil {
		return Record{}, err
	}
	if !sameJSON(data, again) {
		return Record{}, errors.New("damaged: fields missing, unknown or repeated")
	}
	return rec, nil
}

// sameJSON reports whether both are the same but for white space.
func sameJSON(a, b []byte) bool {
	var x, y bytes.Buffer
	return json.Compact(&x, a) == nil && json.Compact(&y, b) == nil && bytes.Equal(x.Bytes(), y.Bytes())
}

// checkName refuses what is not a connection name. It does not repeat the name:
// what stands in its place may be a token pasted wrongly.
func checkName(connection string) error {
	if !ValidConnection(connection) {
		return errors.New("not a connection name: want 1 to 63 of a-z, 0-9, - and _")
	}
	return nil
}

// checkSave refuses a record that no correct caller saves, so that a mistake in
// the program is found at once and does no harm to what is stored.
func checkSave(connection string, rec Record) error {
	if err := checkName(connection); err != nil {
		return err
	}
	switch {
	case rec.Version <= rec.Seen.Version:
		return fmt.Errorf("version %d is not above version %d, which was loaded", rec.Version, rec.Seen.Version)
	case rec.Attempt == "" || !utf8.ValidString(rec.Attempt):
		return fmt.Errorf("version %d: the attempt has no name", rec.Version)
	case !rec.State.Valid():
		return fmt.Errorf("version %d: unknown state", rec.Version)
	}
	return nil
}

// mustWrite compares rec with what a store holds in its present run, as Save
// promises: true, rec is to be written; false, it stands there already.
func mustWrite(rec, stored Record, run string) (bool, error) {
	switch {
	case rec.Seen.Run != run:
		return false, ErrConflict
	case stored.Exists() && stored.Attempt == rec.Attempt && stored.Run == run:
		return false, nil
	case stored.Version != rec.Seen.Version:
		return false, ErrConflict
	}
	return true, nil
}
