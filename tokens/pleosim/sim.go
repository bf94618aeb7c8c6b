package pleosim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

// TB is the part of testing.TB that a Sim needs. It is declared here so that
// the program does not link package testing.
type TB interface {
	Helper()
	Errorf(format string, args ...any)
	Logf(format string, args ...any)
	Cleanup(func())
}

// Options say how strict or odd a Sim is. The zero value is a strict Pleo whose
// answers are plain.
type Options struct {
	// ClientID and ClientSecret are the one OAuth client; empty means
	// "pleosim-client" and "pleosim-secret".
	ClientID, ClientSecret string
	// ClientAuth is "basic" (also when empty) or "post". The other method is
	// refused, because Pleo's pages disagree and a client must never probe.
	ClientAuth string
	// RedirectURLs are compared byte for byte. None means that any is accepted,
	// as long as the exchange repeats it exactly.
	RedirectURLs []string
	// AutoConsent approves at once instead of showing a page with two buttons.
	AutoConsent bool
	// AccessLife is how long an access token lives; zero means 15 minutes, the
	// figure of a withdrawn page and the only one there is.
	AccessLife time.Duration
	// RefreshLife is how long a refresh token lives; zero means 60 days, the
	// least that Pleo promises.
	RefreshLife time.Duration
	// StringExpiresIn answers expires_in as "900" instead of 900.
	StringExpiresIn bool
	// OmitRefreshToken leaves refresh_token out of refresh answers and keeps
	// the old one good, as one legacy page of Pleo's allows.
	OmitRefreshToken bool
	// TokenLength is the length of tokens in bytes; zero means 64.
	TokenLength int
	// TokenAlphabet is what tokens are drawn from; empty means letters, digits
	// and "-._~+/". Anything legal in a header value may be given.
	TokenAlphabet string
	// RefusalCode is the error member for a dead refresh token; empty means
	// "invalid_grant". Pleo documents none, and "invalid_refresh_token" was seen.
	RefusalCode string
	// Skew is added to the Date field of every answer.
	Skew time.Duration
	// Hostile adds, by Seed, delays and oddities that are legal: strange field
	// casing, unknown JSON members, chunked answers, long tokens, expires_in as
	// a string, either refusal code.
	Hostile bool
	// Seed makes tokens, chances and hostility repeatable; zero draws one. It
	// is logged either way.
	Seed uint64
	// Log receives what happens in plain words, one line a call, without
	// secrets. Nil means TB.Logf, or nothing where there is no TB. It must not
	// call the Sim.
	Log func(line string)
}

const (
	defaultAccessLife  = 15 * time.Minute
	defaultRefreshLife = 60 * 24 * time.Hour
	defaultTokenLength = 64

	headerAlphabet  = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/"
	hostileAlphabet = headerAlphabet + "~+/=.-_~+/=.-_"
)

// withDefaults fills what was left open.
func (o Options) withDefaults() Options {
	or := func(s *string, value string) {
		if *s == "" {
			*s = value
		}
	}
	or(&o.ClientID, "pleosim-client")
	or(&o.ClientSecret, "pleosim-secret")
	or(&o.ClientAuth, "basic")
	if o.Hostile {
		or(&o.TokenAlphabet, hostileAlphabet)
	}
	or(&o.TokenAlphabet, headerAlphabet)
	if o.AccessLife == 0 {
		o.AccessLife = defaultAccessLife
	}
	if o.RefreshLife == 0 {
		o.RefreshLife = defaultRefreshLife
	}
	for o.Seed == 0 {
		o.Seed = rand.Uint64() >> 11 // fits a JSON number exactly
	}
	return o
}

// A Sim is one simulated Pleo. Its methods and handlers may be used by many
// goroutines at once.
type Sim struct {
	// Token, Introspect, Resource and File take the faults of the token
	// endpoint, the introspection endpoint, the resource API and the file host.
	Token, Introspect, Resource, File *Faults

	opt    Options
	dice   *dice
	report *report
	done   chan struct{} // closed by Close: every wait ends
	late   sync.WaitGroup

	// mu guards everything below. It is never held across I/O, a hook or a
	// wait, so that a Sim works on a bubble's clock.
	mu       sync.Mutex
	secrets  []string // client secrets, the last one is good
	filesURL string
	grants   []*grant
	tokens   map[string]*token
	codes    map[string]*code
	hooks    map[hookKey][]func(Event)
	held     int
	release  chan struct{}
	tally    Tally
}

// New makes a Sim. With a TB, violations fail the test and Close is left to its
// Cleanup; with nil they are recorded and logged.
func New(t TB, o Options) *Sim {
	o = o.withDefaults()
	s := &Sim{
		opt:      o,
		dice:     newDice(o.Seed),
		report:   newReport(t, o.Log),
		done:     make(chan struct{}),
		secrets:  []string{o.ClientSecret},
		filesURL: "http://" + FilesAddr,
		tokens:   map[string]*token{},
		codes:    map[string]*code{},
		hooks:    map[hookKey][]func(Event){},
		release:  make(chan struct{}),
		tally:    Tally{APIRefused: map[string]int{}},
	}
	s.Token, s.Introspect = &Faults{sim: s, place: AtToken}, &Faults{sim: s, place: AtIntrospect}
	s.Resource, s.File = &Faults{sim: s, place: AtResource}, &Faults{sim: s, place: AtFile}
	s.logf("seed %d, hostile %t", o.Seed, o.Hostile)
	if t != nil {
		t.Cleanup(s.Close)
	}
	return s
}

// Close ends every delay, hold and late rotation, and checks that what was
// expected happened. Handlers that still run abort their connections. It may be
// called more than once.
func (s *Sim) Close() {
	s.mu.Lock()
	select {
	case <-s.done:
	default:
		close(s.done)
	}
	s.mu.Unlock()
	s.late.Wait()
	s.report.close()
}

// SetFilesURL says where [Sim.Files] is served, without a slash at the end;
// downloads redirect there. The default is http:// and [FilesAddr].
func (s *Sim) SetFilesURL(url string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.filesURL = url
}

// SetClientSecret changes the client's secret: from here the old one is
// answered invalid_client. Grants stay as they are.
func (s *Sim) SetClientSecret(secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secrets = append(s.secrets, secret)
	s.logf("client secret changed")
}

// Secrets are all values that must never show in a log, an answer or a file:
// client secrets, codes, access and refresh tokens, from the first on. Tests
// search output for them.
func (s *Sim) Secrets() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := append([]string(nil), s.secrets...)
	for value := range s.tokens {
		all = append(all, value)
	}
	for value := range s.codes {
		all = append(all, value)
	}
	return all
}

// wait sleeps for d. It reports false when the Sim was closed or ctx ended.
func (s *Sim) wait(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
	case <-s.done:
	}
	return false
}

func (s *Sim) logf(format string, args ...any) { s.report.logf(format, args...) }

// abort cuts the connection without a word.
func abort() { panic(http.ErrAbortHandler) }

// dice are the one source of chance, so that a seed repeats a run.
type dice struct {
	mu sync.Mutex
	r  *rand.Rand
}

func newDice(seed uint64) *dice {
	return &dice{r: rand.New(rand.NewPCG(seed, 0x706c656f))}
}

func (d *dice) below(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.r.IntN(n)
}

func (d *dice) chance(p float64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.r.Float64() < p
}

func (d *dice) word(n int, alphabet string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	word := make([]byte, n)
	for i := range word {
		word[i] = alphabet[d.r.IntN(len(alphabet))]
	}
	return string(word)
}

func (d *dice) uuid() string {
	h := d.word(32, "0123456789abcdef")
	return fmt.Sprintf("%s-%s-4%s-a%s-%s", h[:8], h[8:12], h[13:16], h[17:20], h[20:])
}
