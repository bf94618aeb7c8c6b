package tokens

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"pleo-sidecar/lock"
)

// Finding is one thing that a check found. A check presents no refresh token and
// changes nothing that is stored.
type Finding struct {
	What     string // what was looked at
	Text     string // what is well with it or, if Doubtful, may not be meant
	Doubtful bool
	Err      error  // what is wrong with it; nil otherwise
	Advice   string // what to do about Err
}

// CheckFolder looks at what NewFile or NewSpool would find at dir, which
// messages call what, and makes nothing. A folder that can be written needs no
// word.
func CheckFolder(what, dir string) (found []Finding, writable bool) {
	_, err := os.Stat(dir)
	if err == nil {
		if err := tryToWrite(dir); err != nil {
			return []Finding{{What: what, Err: err, Advice: "serve must be able to write there"}}, false
		}
		return nil, true
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = tryToWrite(filepath.Dir(dir))
	}
	if err != nil {
		return []Finding{{What: what, Err: err, Advice: "the folder above must be there, for serve to make this one"}}, false
	}
	return []Finding{{What: what, Text: fmt.Sprintf("%q is not there yet: serve makes it", dir)}}, false
}

// tryToWrite makes a file in dir and removes it. Its name is that of an
// unfinished file, so that openFolder removes what a killed process left.
func tryToWrite(dir string) error {
	probe, err := os.CreateTemp(dir, ".check-*"+tempSuffix)
	if err != nil {
		return err
	}
	_, err = probe.WriteString("written")
	return errors.Join(err, probe.Close(), os.Remove(probe.Name()))
}

// checkLockTime is how long CheckLock waits: a refresh is seldom as long.
const checkLockTime = 5 * time.Second

// CheckLock holds the lock of a connection for a moment.
func CheckLock(ctx context.Context, locker lock.Locker, connection string) []Finding {
	ctx, cancel := context.WithTimeout(ctx, checkLockTime)
	defer cancel()
	err := locker.Do(ctx, connection, func(context.Context) error { return nil })
	if err != nil {
		return []Finding{{What: "lock", Err: err, Advice: "a refresh is running, the file system has no locks (flock), or Redis is away or refuses them (ACL, memory)"}}
	}
	return nil
}

// CheckStore loads every record.
func CheckStore(ctx context.Context, store Store, index Index) (found []Finding) {
	all, err := Survey(ctx, store, index)
	if err != nil {
		return []Finding{{What: "store", Err: err, Advice: "serve must be able to read it"}}
	}
	found = append(found, Finding{What: "store", Text: fmt.Sprintf("%v, %d connections", index, len(all))})
	if _, ok := index.(*Redis); ok {
		found = append(found, Finding{What: "store", Doubtful: true,
			Text: "maxmemory-policy (noeviction is needed), persistence (appendonly) and replicas were not looked at"})
	}
	for _, s := range all {
		f := Finding{What: fmt.Sprintf("connection %q", s.Connection)}
		switch st := s.Record.State; {
		case s.Err != nil:
			f.Err, f.Advice = s.Err, "move the record away, and log in again"
		case st == StateLoginRequired, st == StateClientRejected:
			f.Doubtful, f.Text = true, strings.ReplaceAll(string(st), "_", " ")+": "+s.Record.Reason
		default:
			continue
		}
		found = append(found, f)
	}
	return found
}

// CheckClient introspects a text that is no token: it spends nothing, and only an
// accepted client gets an answer.
func CheckClient(ctx context.Context, e *Endpoint) Finding {
	if !e.Introspects() {
		return Finding{What: "introspection", Doubtful: true, Text: "is switched off, so client id and secret were not tried"}
	}
	_, err := e.Introspect(ctx, NewSecret(rand.Text()))
	if err != nil {
		return Finding{What: "introspection", Err: ClientRejected(err),
			Advice: "without it a lost answer is left to refresh.on_lost_answer; none in oauth.introspection_url switches it off"}
	}
	return Finding{What: "introspection", Text: "client id and secret are accepted"}
}
