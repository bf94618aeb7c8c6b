package lock

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestLocalForgetsNamesNobodyUses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLocal()
		for i := range 1000 {
			name := fmt.Sprintf("name-%d", i)
			err := l.Do(t.Context(), name, func(context.Context) error {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				return l.Do(ctx, name, nil) // a waiter that gives up
			})
			if !errors.Is(err, ErrNotHeld) {
				t.Fatalf("Do within Do = %v, want ErrNotHeld", err)
			}
		}
		if n := len(l.slots); n != 0 {
			t.Errorf("%d names kept, want none", n)
		}
	})
}

func TestLocalKeepsANameWhileItIsAwaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Local
		free, done := make(chan struct{}), make(chan error)
		wait := func(context.Context) error { <-free; return nil }
		for range 2 {
			go func() { done <- l.Do(t.Context(), "acme", wait) }()
			synctest.Wait()
		}
		free <- struct{}{}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // the second holds it
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := l.Do(ctx, "acme", nil); !errors.Is(err, ErrNotHeld) {
			t.Errorf("third Do = %v, want ErrNotHeld while the second holds", err)
		}
		close(free)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}

func TestLocalServesInOrderOfArrival(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Local
		var order []int
		err := l.Do(t.Context(), "acme", func(context.Context) error {
			for i := range 20 {
				go l.Do(t.Context(), "acme", func(context.Context) error {
					order = append(order, i)
					return nil
				})
				synctest.Wait()
			}
			return nil
		})
		synctest.Wait()
		if err != nil || len(order) != 20 || !slices.IsSorted(order) {
			t.Errorf("served %v, %v; want 0 to 19 in order", order, err)
		}
	})
}
