package tokens

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pleo-sidecar/lock"
)

func TestCheckOfAFolderMakesNothing(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	mustDo(t, os.WriteFile(file, nil, 0o600))
	for name, test := range map[string]struct {
		dir      string
		writable bool
		text     string // of the finding; "" where it is an error, or none
		advice   string
	}{
		"a folder":           {dir, true, "", ""},
		"one to be made":     {filepath.Join(dir, "folder"), false, "is not there yet: serve makes it", ""},
		"none above":         {filepath.Join(dir, "absent", "folder"), false, "", "the folder above must be there"},
		"a file":             {file, false, "", "serve must be able to write there"},
		"a file in its path": {filepath.Join(file, "folder"), false, "", "the folder above must be there"},
	} {
		found, writable := CheckFolder("store.file.dir", test.dir)
		if writable != test.writable || (len(found) == 0) != writable {
			t.Fatalf("%s: writable %t, found %+v", name, writable, found)
		}
		for _, f := range found {
			if f.What != "store.file.dir" || !strings.HasSuffix(f.Text, test.text) || (f.Err == nil) != (test.text != "") ||
				!strings.HasPrefix(f.Advice, test.advice) || f.Doubtful {
				t.Errorf("%s: found %+v", name, f)
			}
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("the folder holds %v, %v", entries, err)
	}
}

func TestCheckOfAStoreNamesWhatNeedsAPerson(t *testing.T) {
	m := NewMemory()
	for name, state := range map[string]State{"fine": StateOK, "dead": StateLoginRequired, "refused": StateClientRejected, "other": StateOK} {
		mustDo(t, m.Save(t.Context(), name, Record{Version: 1, Attempt: "1", State: state, Reason: "why", Seen: Seen{Run: m.run}}))
	}
	var got []string
	for _, f := range CheckStore(t.Context(), &damagedStore{Store: m, mended: new(atomic.Bool)}, m) {
		got = append(got, fmt.Sprintf("%s: %s, %t, %v", f.What, f.Text, f.Doubtful, f.Err))
	}
	want := []string{
		`store: memory, 4 connections, false, <nil>`,
		`connection "dead": login required: why, true, <nil>`,
		`connection "other": , false, load connection "other" from memory: record is damaged`,
		`connection "refused": client rejected: why, true, <nil>`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	found := CheckStore(t.Context(), m, unlisted{})
	if len(found) != 1 || !errors.Is(found[0].Err, errDamaged) {
		t.Errorf("a store that is away: found %+v", found)
	}
}

func TestCheckOfALockWaitsForARefreshAndNoLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		locker := lock.NewLocal()
		if found := CheckLock(t.Context(), locker, "acme"); found != nil {
			t.Errorf("a free lock: found %+v", found)
		}
		ctx, release := context.WithCancel(t.Context())
		defer release()
		go func() {
			_ = locker.Do(ctx, "acme", func(ctx context.Context) error {
				<-ctx.Done()
				return nil
			})
		}()
		synctest.Wait()
		began := time.Now()
		found := CheckLock(t.Context(), locker, "acme")
		if took := time.Since(began); took != checkLockTime || len(found) != 1 || !errors.Is(found[0].Err, context.DeadlineExceeded) {
			t.Errorf("a lock that is held: found %+v after %v", found, took)
		}
	})
}

func TestCheckOfTheClientSpendsNoToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, test := range []struct {
			name, answer string
			want         error // nil: accepted
		}{
			{"accepted", json200(`{"active":false}`), nil},
			{"refused", "HTTP/1.1 401 x\r\nContent-Length: 0\r\n\r\n", ErrClientRejected},
		} {
			var sent string
			e := newTestEndpoint(t, pipeTo(t, answering(test.answer, func(request string) { sent = request })))
			f := CheckClient(t.Context(), e)
			if !errors.Is(f.Err, test.want) || (f.Text == "client id and secret are accepted") != (test.want == nil) || f.Doubtful {
				t.Errorf("%s: found %+v", test.name, f)
			}
			if !strings.HasPrefix(sent, "POST /oauth/token/introspect ") || strings.Contains(sent, testRefresh) {
				t.Errorf("%s: sent %q", test.name, sent)
			}
		}
	})
	e := newTestEndpoint(t, nil, func(o *EndpointOptions) { o.IntrospectionURL = "" })
	if f := CheckClient(t.Context(), e); !f.Doubtful || f.Err != nil {
		t.Errorf("without introspection: found %+v", f)
	}
}
