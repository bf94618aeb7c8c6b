package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pleo-sidecar/tokens"
)

var update = flag.Bool("update", false, "write the golden files")

// occurrences are errors, one for each slug, as they reach fail.
var occurrences = map[slug]error{
	slugLoginRequired:         fmt.Errorf(`load connection "acme": %w`, tokens.ErrLoginRequired),
	slugClientRejected:        tokens.ErrClientRejected,
	slugUnknownConnection:     tokens.ErrUnknownConnection,
	slugTokenUnavailable:      tokens.ErrTokenUnavailable,
	slugStoreUnavailable:      tokens.ErrStoreUnavailable,
	slugUpstreamUnreachable:   upstreamFailed(errors.New("rubbish from upstream: " + firstAccess)),
	slugUpstreamTimeout:       upstreamFailed(os.ErrDeadlineExceeded),
	slugCallerRefused:         refuse(slugCallerRefused, ""),
	slugCallerUnauthenticated: refuse(slugCallerUnauthenticated, ""),
	slugWrongHost:             refuse(slugWrongHost, ""),
	slugBadRequest:            bodyFailed(errors.New("torn " + callerSecret)),
	slugContentTooLarge:       bodyFailed(&http.MaxBytesError{Limit: 1}),
	slugNotFound:              own(nil),
	slugInternalError:         errors.New("unforeseen: " + firstAccess),
}

func TestProblemDocumentsReadAsAgreed(t *testing.T) {
	for s, err := range occurrences {
		t.Run(string(s), func(t *testing.T) {
			res := answerTo(t, err)
			var b strings.Builder
			fmt.Fprintf(&b, "%d\n", res.Code)
			for _, name := range slices.Sorted(maps.Keys(res.Header())) {
				fmt.Fprintf(&b, "%s: %s\n", name, strings.Join(res.Header()[name], ", "))
			}
			fmt.Fprintf(&b, "\n%s", res.Body)
			golden(t, string(s), b.String())
			if !json.Valid(res.Body.Bytes()) {
				t.Error("the document is not JSON")
			}
		})
	}
}

func TestEverySlugHasAProblemAndAnOccurrence(t *testing.T) {
	for s, p := range problems {
		if _, ok := occurrences[s]; !ok {
			t.Errorf("%s: no occurrence is tested", s)
		}
		if (p.status == http.StatusUnauthorized) != (p.challenge != "") {
			t.Errorf("%s: a 401 and a challenge go together", s)
		}
		if p.title == "" || p.detail == "" || p.proxy == "" || http.StatusText(p.status) == "" {
			t.Errorf("%s: incomplete: %+v", s, p)
		}
	}
	for _, name := range constants(t, "problem.go", "slug") {
		if _, ok := problems[slug(name)]; !ok {
			t.Errorf("%s: no problem", name)
		}
	}
}

func TestEverySentinelOfTokensIsMapped(t *testing.T) {
	var named int
	inspect(t, filepath.Join("..", "tokens", "errors.go"), func(n ast.Node) {
		if v, ok := n.(*ast.ValueSpec); ok && strings.HasPrefix(v.Names[0].Name, "Err") {
			named++
		}
	})
	if named != len(bySentinel) {
		t.Errorf("tokens has %d sentinels for callers, %d are mapped", named, len(bySentinel))
	}
	for _, m := range bySentinel {
		if s, _ := problemOf(fmt.Errorf("wrapped: %w", m.err)); s != m.slug {
			t.Errorf("%v is %s, want %s", m.err, s, m.slug)
		}
	}
}

func TestRetryAfterIsRoundedUp(t *testing.T) {
	for d, want := range map[time.Duration]int64{1: 1, time.Second: 1, time.Second + 1: 2, 90 * time.Second: 90} {
		if got := wholeSeconds(d); got != want {
			t.Errorf("%v is %d s, want %d", d, got, want)
		}
	}
}

func TestProblemOfACallerThatLeftIsAnAbort(t *testing.T) {
	defer func() {
		if v := recover(); !isAbort(v) {
			t.Errorf("panic %v", v)
		}
	}()
	ctx, leave := context.WithCancel(t.Context())
	leave()
	fail(httptest.NewRecorder(), withCall(httptest.NewRequest("GET", "/", nil).WithContext(ctx), &call{}), tokens.ErrLoginRequired)
	t.Error("it was answered")
}

func answerTo(t *testing.T, err error) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequest("GET", "/@acme/v1/x", nil)
	r.Header.Set("X-Request-Id", "r-1")
	fail(w, withCall(r, &call{connection: "acme"}), err)
	for _, secret := range secrets {
		if strings.Contains(w.Body.String()+fmt.Sprint(w.Header()), secret) {
			t.Errorf("the answer holds the secret %q", secret)
		}
	}
	return w
}

// golden compares got with testdata/name.golden, or writes it there.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", "problems", name+".golden")
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// constants returns the values of the string constants of type typ in file.
func constants(t *testing.T, file, typ string) (values []string) {
	t.Helper()
	inspect(t, file, func(n ast.Node) {
		v, ok := n.(*ast.ValueSpec)
		if !ok || len(v.Values) != 1 {
			return
		}
		id, isType := v.Type.(*ast.Ident)
		if lit, ok := v.Values[0].(*ast.BasicLit); ok && isType && id.Name == typ {
			values = append(values, strings.Trim(lit.Value, `"`))
		}
	})
	if len(values) == 0 {
		t.Fatalf("%s has no constants of type %s", file, typ)
	}
	return values
}

func inspect(t *testing.T, file string, visit func(ast.Node)) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		visit(n)
		return true
	})
}
