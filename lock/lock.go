// Package lock runs a function in one process at a time.
//
// A lock here is a closure: Do obtains the lock, runs the function and
// releases the lock. Obtaining, extending and releasing never reach the caller,
// so none of them can be forgotten, done twice or done by the wrong holder.
//
// A lock saves effort; it is not the truth. A process can be paused for longer
// than its lease, a backend can fail over and hand the same lock out again, a
// lock file can be deleted by hand. What must never happen twice is therefore
// guarded where it is written, by a compare-and-swap of the store, and the lock
// only keeps the others from trying in vain. Replaced by locktest.None, which
// locks nothing, everything must still be correct, only busier.
package lock

import (
	"context"
	"errors"
	"fmt"
)

var (
	// ErrNotHeld says that the context ended before the lock was obtained.
	// It always comes together with the cause of that context.
	ErrNotHeld = errors.New("lock: not held")

	// ErrUnavailable says that the backend of the lock cannot be reached or
	// used, so that nobody can tell whether the lock is free.
	ErrUnavailable = errors.New("lock: unavailable")

	// ErrLost is the cause with which the function's context ends when its
	// lease is in doubt. Do itself never returns it unless the function does.
	ErrLost = errors.New("lock: lost")

	// ErrName says that a name is outside the grammar given at Locker.
	ErrName = errors.New("lock: malformed name")
)

// A Locker runs functions under named locks. Names are independent of each
// other. A Locker is safe for concurrent use.
type Locker interface {
	// Do waits until it holds the lock called name, runs fn once, and releases
	// the lock. It excludes every other Do of that name on the same backend,
	// through this Locker or another, in this process or another.
	//
	// A name is 1 to 63 of a-z 0-9 - _ and begins and ends with a letter or
	// digit, as a connection's does. Anything else is refused with ErrName.
	//
	// Do waits until ctx ends; a ctx without an end waits for ever. If ctx ends
	// first, the error wraps ErrNotHeld and the cause of ctx. If the backend
	// cannot be reached, the error wraps ErrUnavailable. In all three cases fn
	// was not run, and in no other: once fn has run, Do returns the error of fn
	// as it is, also when the lease was lost or the release went wrong.
	//
	// fn gets a context with the values of ctx, good until fn returns. It ends
	// when ctx ends, with the same cause. Where a lock is a lease, it also ends,
	// with cause ErrLost, as soon as the lease is in doubt: another may hold the
	// lock from then on, and fn must not begin what only a holder may do.
	// Work that is already done is still worth saving by compare-and-swap.
	//
	// The release is detached from ctx, so a caller that gives up while fn runs
	// leaves no lock behind. A panic or runtime.Goexit in fn releases the lock
	// and goes on.
	//
	// Do is not reentrant: within fn, a Do of the same name waits for itself
	// until its context ends. Waiters are served in no promised order.
	Do(ctx context.Context, name string, fn func(ctx context.Context) error) error
}

// notHeld is the error of a Do whose ctx has ended.
func notHeld(ctx context.Context, name string) error {
	return fmt.Errorf("obtain %q: %w: %w", name, ErrNotHeld, context.Cause(ctx))
}

// unavailable is the error of a Do whose backend answered err.
func unavailable(name string, err error) error {
	return fmt.Errorf("obtain %q: %w: %w", name, ErrUnavailable, err)
}

// maxName is the length of the longest name: that of a DNS label, so that a
// connection can be named after one.
const maxName = 63

// checkName refuses what is outside the grammar of names. Every Locker calls it
// first: what works with one works with all, and no name can hold a path
// separator, a dot or the braces of a Redis hash tag.
func checkName(name string) error {
	ok := len(name) >= 1 && len(name) <= maxName &&
		alphanumeric(name[0]) && alphanumeric(name[len(name)-1])
	for i := 0; ok && i < len(name); i++ {
		ok = alphanumeric(name[i]) || name[i] == '-' || name[i] == '_'
	}
	if !ok {
		// Cut, since a name that is refused can be of any length.
		return fmt.Errorf("obtain %.*q: %w", maxName+1, name, ErrName)
	}
	return nil
}

func alphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9'
}
