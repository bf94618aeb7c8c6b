package lock

import (
	"context"
	"sync"
)

// Local is a Locker for one process. It starts no goroutine, has no lease to
// lose, is never unavailable, and forgets a name when its last user leaves.
// Waiters are served in order of arrival. The zero value is ready for use.
type Local struct {
	mu    sync.Mutex // guards slots and users; never held while waiting or in fn
	slots map[string]*slot
}

// slot is the lock of one name while somebody holds or awaits it.
type slot struct {
	held  chan struct{} // holds one element while the lock is held
	users int           // holder and waiters
}

// NewLocal returns a Locker that excludes within this process.
func NewLocal() *Local { return &Local{} }

// Do implements Locker.
func (l *Local) Do(ctx context.Context, name string, fn func(ctx context.Context) error) error {
	if err := checkName(name); err != nil {
		return err
	}
	s := l.enter(name)
	defer l.leave(name, s)
	select {
	case s.held <- struct{}{}:
		defer func() { <-s.held }()
	case <-ctx.Done():
		return notHeld(ctx, name)
	}
	// With both ready, select takes either: an ended ctx must run nothing.
	if ctx.Err() != nil {
		return notHeld(ctx, name)
	}
	return fn(ctx)
}

// enter returns the slot of name and counts the caller as its user.
func (l *Local) enter(name string) *slot {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.slots[name]
	if s == nil {
		if l.slots == nil {
			l.slots = make(map[string]*slot)
		}
		s = &slot{held: make(chan struct{}, 1)}
		l.slots[name] = s
	}
	s.users++
	return s
}

// leave ends the caller's use of s. The last user takes the slot out of the
// map; whoever comes later starts with an empty one.
func (l *Local) leave(name string, s *slot) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.users--
	if s.users == 0 {
		delete(l.slots, name)
	}
}
