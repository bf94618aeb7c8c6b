package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

const (
	callers  = 4
	pause    = 100 * time.Millisecond // between two calls of one caller
	callTime = 30 * time.Second       // longer than the sidecar lets a call wait
	postEach = 5                      // one call in so many has content
)

// app is what a sidecar is for: it knows the address of its sidecar and nothing
// of tokens. Its zero value has called nobody yet.
type app struct {
	mu    sync.Mutex
	count tally
}

// tally counts the calls of an app.
type tally struct {
	served  int
	bad     map[string]int // what callers saw instead, by status or error
	slowest time.Duration
}

// work calls the sidecar until ctx ends. The calls under way are finished.
func (a *app) work(ctx context.Context, sidecar string) {
	client := &http.Client{
		Timeout:   callTime,
		Transport: &http.Transport{MaxIdleConnsPerHost: callers},
	}
	defer client.CloseIdleConnections()
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			ticker := time.NewTicker(pause)
			defer ticker.Stop()
			for n := 0; ctx.Err() == nil; n++ {
				begun := time.Now()
				a.note(call(client, sidecar, n), time.Since(begun))
				select {
				case <-ctx.Done():
				case <-ticker.C:
				}
			}
		})
	}
	all.Wait()
}

// call sends one plain call and returns what is wrong with its answer, "" if
// nothing is.
func call(client *http.Client, sidecar string, n int) string {
	method, path, content := http.MethodGet, "/v2/employees", io.Reader(nil)
	if n%postEach == 0 {
		method, path, content = http.MethodPost, "/v1/accounting-entries:search", strings.NewReader(`{"entries":"all"}`)
	}
	// The context is not that of the demo: a call that ends with it would look
	// like one that failed.
	req, err := http.NewRequestWithContext(context.Background(), method, sidecar+path, content)
	if err != nil {
		return err.Error()
	}
	resp, err := client.Do(req)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // without the URL, so that equal causes are counted as one
		}
		return err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return fmt.Sprintf("%d, then %v", resp.StatusCode, err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Sprint(resp.StatusCode)
	}
	return ""
}

func (a *app) note(bad string, took time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.count.slowest = max(a.count.slowest, took)
	if bad == "" {
		a.count.served++
		return
	}
	if a.count.bad == nil {
		a.count.bad = map[string]int{}
	}
	a.count.bad[bad]++
}

// take returns what happened since the last take.
func (a *app) take() tally {
	a.mu.Lock()
	defer a.mu.Unlock()
	t := a.count
	a.count = tally{}
	return t
}

// add adds u to t.
func (t *tally) add(u tally) {
	t.served += u.served
	t.slowest = max(t.slowest, u.slowest)
	for what, n := range u.bad {
		if t.bad == nil {
			t.bad = map[string]int{}
		}
		t.bad[what] += n
	}
}
