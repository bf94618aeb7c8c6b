package locktest

import "context"

// None is a Locker that locks nothing. It stands in for a lock that has failed
// in every way at once: what is correct under None does not depend on its lock.
type None struct{}

// Do runs fn at once, whoever else does.
func (None) Do(ctx context.Context, _ string, fn func(ctx context.Context) error) error {
	return fn(ctx)
}
