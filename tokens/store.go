package tokens

import (
	"context"
	"errors"
)

// Errors of a Store. Anything else that Load returns means the store could not
// be asked; anything else that Save returns means the write may or may not have
// landed.
var (
	// ErrNotFound says that the store has never held the connection. It is never
	// returned for a store that could not be asked.
	ErrNotFound = errors.New("tokens: connection not found")
	// ErrConflict says that the store holds another record, or is another run,
	// than the one that was loaded. Nothing was written.
	ErrConflict = errors.New("tokens: record changed since it was loaded")
)

// Store keeps one record a connection. It is safe for concurrent use by several
// goroutines, and, unless it says otherwise, by several processes. Every Store
// passes the suite in tokens/storetest.
type Store interface {
	// Load returns the record of connection, with Seen set. When there is none
	// it returns ErrNotFound and a zero record whose Seen names the run, so that
	// the first record can be saved on it.
	Load(ctx context.Context, connection string) (Record, error)

	// Save replaces the record of connection by rec if the store is still the
	// run rec.Seen.Run and still holds rec.Seen.Version, or already holds
	// rec.Attempt in that same run (a retry whose first reply was lost).
	// It stores rec.Version, which must be above rec.Seen.Version, and the
	// present run. nil means that the record survives a crash of this process;
	// ErrConflict, that another record stands; any other error, that the outcome
	// is unknown, and the same rec may be saved again to find out.
	//
	// Ending ctx ends the waiting, not necessarily the write.
	Save(ctx context.Context, connection string, rec Record) error
}

// Index tells which connections a store holds and when one changes. It sees no
// secret, so Seal does not wrap it.
type Index interface {
	// List returns the names of all connections with a record, tombstones
	// included, in order.
	List(ctx context.Context) ([]string, error)

	// Watch calls changed with the name of each connection whose record may have
	// changed, whoever changed it, until ctx ends; it returns nil then. It is a
	// hint: a call may be spurious or stand for several changes, and changed must
	// be quick. "" means that any of them may have changed.
	Watch(ctx context.Context, changed func(connection string)) error
}

// ValidConnection reports whether name is a connection name: 1 to 63 of a-z,
// 0-9, - and _, beginning and ending with a letter or digit. Such a name is
// safe as a file name, a Redis hash tag and a URL path segment.
func ValidConnection(name string) bool {
	if len(name) < 1 || len(name) > 63 {
		return false
	}
	for i := range len(name) {
		c := name[i]
		alnum := 'a' <= c && c <= 'z' || '0' <= c && c <= '9'
		inner := (c == '-' || c == '_') && i > 0 && i < len(name)-1
		if !alnum && !inner {
			return false
		}
	}
	return true
}
