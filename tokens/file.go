package tokens

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	// fileRun is the run of every file store: a disk that answers has not
	// forgotten what it took.
	fileRun = "file"
	// recordSuffix ends the name of a record file, after the connection.
	recordSuffix = ".record"
	// watchEvery is how often Watch looks at the folder: half of it is what a
	// change by another process waits on average. Looking needs no dependency,
	// and works on every file system.
	watchEvery = time.Second
)

// File is a Store and an Index in a folder of a local disk: one readable file a
// connection, with the sealed pair inside. It takes sealed records only.
// Several processes of one machine may share the folder; each Save holds a lock
// on it (flock(2)) for its one write. A record file that cannot be understood is
// an error that names it, and is never overwritten.
type File struct {
	folder  *folder
	changes changes
}

// NewFile returns the store in the folder dir, which is made if it is missing;
// the folder above it must exist. A folder that others can enter is refused.
func NewFile(dir string) (*File, error) { return newFile(dir, osOps) }

// String names the store for messages.
func (f *File) String() string { return fmt.Sprintf("folder %q", f.folder.dir) }

func newFile(dir string, ops fileOps) (*File, error) {
	folder, err := openFolder(dir, ops)
	if err != nil {
		return nil, err
	}
	return &File{folder: folder}, nil
}

// Load implements Store.
func (f *File) Load(ctx context.Context, connection string) (Record, error) {
	if err := checkName(connection); err != nil {
		return Record{}, err
	}
	if ctx.Err() != nil {
		return Record{}, context.Cause(ctx)
	}
	return f.load(connection)
}

func (f *File) load(connection string) (Record, error) {
	rec, err := f.folder.readRecord(connection, recordSuffix)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Record{Seen: Seen{Run: fileRun}}, ErrNotFound
	case err != nil:
		return Record{}, err
	}
	rec.Seen = Seen{Version: rec.Version, Run: fileRun}
	return rec, nil
}

// readRecord returns the record in the file of connection. Its error names the
// file, and is fs.ErrNotExist only if there is none.
func (f *folder) readRecord(connection, suffix string) (Record, error) {
	name := connection + suffix
	data, err := f.read(name)
	if err != nil {
		return Record{}, err
	}
	rec, err := decodeRecord(connection, data)
	if err != nil {
		return Record{}, fmt.Errorf("read %q: %w", f.path(name), err)
	}
	return rec, nil
}

// Save implements Store.
func (f *File) Save(ctx context.Context, connection string, rec Record) error {
	if err := checkSave(connection, rec); err != nil {
		return err
	}
	if !rec.Token.IsZero() && len(rec.Sealed) == 0 {
		return fmt.Errorf("version %d: would store tokens in the clear", rec.Version)
	}
	rec.Run = fileRun
	data, err := encodeRecord(connection, rec)
	if err != nil {
		return err
	}
	unlock, err := f.folder.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	stored, err := f.load(connection)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	write, err := mustWrite(rec, stored, fileRun)
	switch {
	case err != nil:
		return err
	case !write:
		// It stands, but the first try may have ended with a folder that could
		// not be synced.
		return f.folder.sync()
	}
	if err := f.folder.replace(connection+recordSuffix, data); err != nil {
		return err
	}
	f.changes.tell(connection)
	return nil
}

// List implements Index.
func (f *File) List(ctx context.Context) ([]string, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	entries, err := f.folder.list(recordSuffix)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = strings.TrimSuffix(e.Name(), recordSuffix)
	}
	slices.Sort(names) // "a-b.record" sorts before "a.record"
	return names, nil
}

// Watch implements Index. Saves of this File are told at once, those of others
// within about a second. While the folder cannot be read nothing is told; when
// it is back, changed("") is.
func (f *File) Watch(ctx context.Context, changed func(connection string)) error {
	w := f.changes.join()
	defer f.changes.leave(w)
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	before := f.stamps()
	changed("")
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.wake:
			f.changes.pass(w, changed)
		case <-tick.C:
			after := f.stamps()
			for _, connection := range compareStamps(before, after) {
				changed(connection)
			}
			before = after
		}
	}
}

// stamp is what tells two contents of a record file apart without reading it.
type stamp struct {
	modified time.Time
	size     int64
	inode    uint64
	// again says that the stamp was new when it was seen. Time stamps are a few
	// milliseconds coarse and inodes are used again, so a second change soon
	// after the first may leave the same stamp: it is told once more next time.
	again bool
}

// stamps returns the stamps of all record files, nil if they cannot be read.
func (f *File) stamps() map[string]stamp {
	entries, err := f.folder.list(recordSuffix)
	if err != nil {
		return nil
	}
	all := make(map[string]stamp, len(entries))
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			continue // removed since the folder was read
		}
		s := stamp{modified: info.ModTime(), size: info.Size(), again: true}
		if sys, ok := info.Sys().(*syscall.Stat_t); ok {
			s.inode = sys.Ino
		}
		all[strings.TrimSuffix(e.Name(), recordSuffix)] = s
	}
	return all
}

// compareStamps returns the connections to tell of, and marks in after those
// that were told the second time.
func compareStamps(before, after map[string]stamp) []string {
	switch {
	case after == nil:
		return nil
	case before == nil:
		return []string{""}
	}
	tell := make(map[string]struct{})
	for name, now := range after {
		was, known := before[name]
		same := known && was.modified.Equal(now.modified) && was.size == now.size && was.inode == now.inode
		if !same || was.again {
			tell[name] = struct{}{}
		}
		now.again = !same
		after[name] = now
	}
	for name := range before {
		if _, ok := after[name]; !ok {
			tell[name] = struct{}{}
		}
	}
	return slices.Sorted(maps.Keys(tell))
}
