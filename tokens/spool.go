package tokens

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
)

const (
	// spoolSuffix ends the name of a spool file, after the connection.
	spoolSuffix = ".spool"
	// asideSuffix is put between the connection and a random text in the name of
	// a spool file that could not be read when its place was needed.
	asideSuffix = ".damaged-"
)

// Spool keeps pairs that the authorization server has issued on the local disk,
// from before they are saved in the store until later ones have replaced them
// there: the copy that outlives both this process and a store that loses its
// last writes. One sealed file a connection, in a folder that several processes
// of one machine may share.
//
// A spool file that cannot be read is reported by name and never removed.
type Spool struct {
	folder *folder
	keys   *Keyring
}

// SpoolEntry is a record found in a Spool, with its Token in the clear.
type SpoolEntry struct {
	Connection string
	Record     Record
}

// NewSpool returns the spool in the folder dir, which is made if it is missing;
// the folder above it must exist. A folder that others can enter is refused.
// The keys that seal differ from those of a store with the same ring.
func NewSpool(dir string, keys *Keyring) (*Spool, error) { return newSpool(dir, keys, osOps) }

func newSpool(dir string, keys *Keyring, ops fileOps) (*Spool, error) {
	folder, err := openFolder(dir, ops)
	if err != nil {
		return nil, err
	}
	return &Spool{folder: folder, keys: keys}, nil
}

// Put keeps rec, unless a newer record of the connection (by Newer) is kept
// already. When it returns nil, the kept record survives a power cut. A file
// that cannot be read in the same place is moved aside, so that it does not cost
// the pair.
func (s *Spool) Put(connection string, rec Record) error {
	if err := checkName(connection); err != nil {
		return err
	}
	if !rec.Exists() || !rec.Living() || rec.Token.IsZero() {
		return fmt.Errorf("version %d: state %s without a pair", rec.Version, rec.State)
	}
	data, err := s.encode(connection, rec)
	if err != nil {
		return err
	}
	unlock, err := s.folder.lockPatiently()
	if err != nil {
		return err
	}
	defer unlock()
	kept, err := s.load(connection)
	switch {
	case err == nil && Newer(kept, rec):
		return nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		if err := s.moveAside(connection); err != nil {
			return err
		}
	}
	return s.folder.replace(connection+spoolSuffix, data)
}

func (s *Spool) encode(connection string, rec Record) ([]byte, error) {
	sealed, err := s.keys.seal(forSpool, connection, rec)
	if err != nil {
		return nil, fmt.Errorf("seal version %d: %w", rec.Version, err)
	}
	rec.Sealed = sealed
	return encodeRecord(connection, rec)
}

func (s *Spool) load(connection string) (Record, error) {
	rec, err := s.folder.readRecord(connection, spoolSuffix)
	if err != nil {
		return Record{}, err
	}
	rec.Token, err = s.keys.open(forSpool, connection, rec)
	if err != nil {
		return Record{}, fmt.Errorf("read %q: %w", s.folder.path(connection+spoolSuffix), err)
	}
	rec.Sealed = nil
	return rec, nil
}

func (s *Spool) moveAside(connection string) error {
	name := s.folder.path(connection + spoolSuffix)
	return s.folder.ops.rename(name, s.folder.path(connection+asideSuffix+rand.Text()))
}

// Remove tells the spool that the store holds stored durably. The kept record is
// removed if stored replaces it for good: a later pair of the same grant, a
// newer grant, a tombstone. The very pair that is kept does not: until the next
// one the spool is its second copy.
func (s *Spool) Remove(connection string, stored Record) error {
	if err := checkName(connection); err != nil {
		return err
	}
	// Nearly always there is nothing: find that out without the lock.
	if _, err := s.load(connection); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	unlock, err := s.folder.lockPatiently()
	if err != nil {
		return err
	}
	defer unlock()
	kept, err := s.load(connection)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !replaces(stored, kept):
		return nil
	}
	if err := s.folder.ops.remove(s.folder.path(connection + spoolSuffix)); err != nil {
		return err
	}
	return s.folder.sync()
}

// replaces reports whether a spooled record is of no more use once the store
// holds stored (protocol, rule 7).
func replaces(stored, spooled Record) bool {
	if stored.Root == spooled.Root {
		return stored.Generation > spooled.Generation
	}
	return Newer(stored, spooled)
}

// All returns the records that are kept, in order of their connections. The
// error names every file that could not be read, also those moved aside; the
// entries are good all the same.
func (s *Spool) All() ([]SpoolEntry, error) {
	files, err := os.ReadDir(s.folder.dir)
	if err != nil {
		return nil, err
	}
	var entries []SpoolEntry
	var damaged []error
	for _, f := range files {
		if strings.Contains(f.Name(), asideSuffix) {
			damaged = append(damaged, fmt.Errorf("read %q: moved aside, could not be read", s.folder.path(f.Name())))
			continue
		}
		connection, ok := strings.CutSuffix(f.Name(), spoolSuffix)
		if !ok || !ValidConnection(connection) {
			continue
		}
		rec, err := s.load(connection)
		switch {
		case errors.Is(err, fs.ErrNotExist): // removed since the folder was read
		case err != nil:
			damaged = append(damaged, err)
		default:
			entries = append(entries, SpoolEntry{connection, rec})
		}
	}
	slices.SortFunc(entries, func(a, b SpoolEntry) int { return strings.Compare(a.Connection, b.Connection) })
	return entries, errors.Join(damaged...)
}
