package pleosim

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// A Place is where a fault strikes or a hook runs.
type Place string

// The places of a Sim.
const (
	AtToken      Place = "token"
	AtIntrospect Place = "introspect"
	AtResource   Place = "resource"
	AtFile       Place = "file"
)

// A Fault is what goes wrong with one request. The fields add up; the zero
// Fault does nothing. "The work" is the rotation at the token endpoint, and
// what the call asks for elsewhere.
type Fault struct {
	// After lets Delay, Hold, Cut and Status strike when the work is done. If
	// false they strike before: nothing is rotated, and the refresh token does
	// not count as presented.
	After bool `json:"after,omitempty"`
	// Delay is waited at that stage, whether or not the client stays: it is a
	// buffer between the client and Pleo.
	Delay time.Duration `json:"delay,omitempty"`
	// Hold waits at that stage for [Sim.Release].
	Hold bool `json:"hold,omitempty"`
	// Cut closes the network connection instead of answering. Before the work,
	// the content of the request is not even read, unless Delay or Hold ask
	// for it.
	Cut bool `json:"cut,omitempty"`
	// Status is answered instead of the true answer. 3xx carries Location.
	Status int `json:"status,omitempty"`
	// Late answers Status (zero: 504) at once and does the work so much later.
	// Until then the refresh counts as running. Token endpoint only.
	Late time.Duration `json:"late,omitempty"`
	// Code is the error member, or the type at the API, beside Status.
	Code string `json:"code,omitempty"`
	// RetryAfter is the field of that name beside Status; empty means none.
	RetryAfter string `json:"retry_after,omitempty"`
	// Location is where a 3xx Status points; empty means a path of the same
	// host whose use is a violation.
	Location string `json:"location,omitempty"`
	// Proxy makes Status look like the answer of a proxy between: HTML.
	Proxy bool `json:"proxy,omitempty"`
	// Garble makes the true answer unreadable after the work.
	Garble Garble `json:"garble,omitempty"`
	// Lie makes introspection say "active" or "inactive" against the truth.
	Lie string `json:"lie,omitempty"`
	// Lag makes introspection answer what was true so long ago: a spent token
	// is still active, one just issued is not yet.
	Lag time.Duration `json:"lag,omitempty"`
	// Skew is added to the Date field, beside Options.Skew.
	Skew time.Duration `json:"skew,omitempty"`
	// Times is how many requests [Faults.Next] spends it on; zero means one.
	Times int `json:"times,omitempty"`
}

// Garble is a way in which a 200 cannot be read.
type Garble string

// The ways to garble an answer.
const (
	GarbleJSON      Garble = "json"      // not JSON
	GarbleEmpty     Garble = "empty"     // no content
	GarbleTruncated Garble = "truncated" // cut in the middle of the content
	GarbleHuge      Garble = "huge"      // 8 MiB of blanks, then the answer
	GarbleNoAccess  Garble = "no-access" // JSON without access_token
	GarbleHTML      Garble = "html"      // a web page
)

const hugeAnswer = 8 << 20

// LoseAnswer does the work, then cuts: the pair is issued and nobody has it.
func LoseAnswer() Fault { return Fault{After: true, Cut: true} }

// CutUnread cuts before the request is read: nothing happened.
func CutUnread() Fault { return Fault{Cut: true} }

// AnswerOnly answers a status without doing the work.
func AnswerOnly(status int) Fault { return Fault{Status: status} }

// WorkThenAnswer does the work and answers a status that hides it.
func WorkThenAnswer(status int) Fault { return Fault{After: true, Status: status} }

// RotateLater answers 504 at once and rotates after d.
func RotateLater(d time.Duration) Fault { return Fault{Late: d} }

// ProxyForbids answers 403 from a proxy in front, which forwarded nothing.
func ProxyForbids() Fault { return Fault{Status: http.StatusForbidden, Proxy: true} }

// Faults decide what goes wrong at one place. For each request the first of
// these wins: the queue of Next, then Always, then the chances in order.
type Faults struct {
	sim   *Sim
	place Place

	mu      sync.Mutex
	next    []Fault
	always  *Fault
	chances []chance
}

type chance struct {
	p     float64
	fault Fault
}

// Next queues faults for the next requests, one each, Times each.
func (f *Faults) Next(faults ...Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, fault := range faults {
		for range max(1, fault.Times) {
			f.next = append(f.next, fault)
		}
	}
}

// Always strikes every request until Clear.
func (f *Faults) Always(fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.always = &fault
}

// Chance strikes with probability p, drawn from the seed.
func (f *Faults) Chance(p float64, fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.chances = append(f.chances, chance{p, fault})
}

// Clear takes all faults away.
func (f *Faults) Clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next, f.always, f.chances = nil, nil, nil
}

func (f *Faults) take() Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.next) > 0 {
		fault := f.next[0]
		f.next = f.next[1:]
		return fault
	}
	if f.always != nil {
		return *f.always
	}
	for _, c := range f.chances {
		if f.sim.dice.chance(c.p) {
			return c.fault
		}
	}
	if f.sim.opt.Hostile && f.sim.dice.chance(0.2) {
		most := map[Place]int{AtToken: 400, AtIntrospect: 400}[f.place] + 40
		return Fault{
			After: f.sim.dice.chance(0.5),
			Delay: time.Duration(f.sim.dice.below(most)) * time.Millisecond,
		}
	}
	return Fault{}
}

// A Point is a moment in the life of a request at which hooks run.
type Point string

// The points, in order. BeforeRotate and AfterRotate exist at the token
// endpoint only.
const (
	Arrived      Point = "arrived"       // read, and before any delay
	BeforeRotate Point = "before rotate" // the refresh token counts as presented
	AfterRotate  Point = "after rotate"  // the pair is issued, nobody has it
	BeforeAnswer Point = "before answer" // the next thing on the wire is the answer
)

// Event tells a hook what it interrupted. Grant and Token (a fingerprint) are
// empty where they are not known yet.
type Event struct {
	Place Place
	Point Point
	Grant string
	Token string
}

type hookKey struct {
	place Place
	point Point
}

// On runs do at a point, in the goroutine of the request, which waits for it.
// No lock is held: do may call the Sim, block, or kill whoever asked.
func (s *Sim) On(place Place, point Point, do func(Event)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := hookKey{place, point}
	s.hooks[key] = append(s.hooks[key], do)
}

func (s *Sim) fire(c *call, point Point) {
	s.mu.Lock()
	hooks := s.hooks[hookKey{c.place, point}]
	event := Event{Place: c.place, Point: point}
	if c.token != nil {
		event.Grant, event.Token = c.token.grant.id, c.token.fingerprint
	}
	s.mu.Unlock()
	for _, do := range hooks {
		do(event)
	}
}

// pause waits as the fault says, and aborts the request if the Sim is closed.
func (s *Sim) pause(f Fault) {
	if !s.wait(context.Background(), f.Delay) || f.Hold && !s.hold() {
		abort()
	}
}

// Release lets all held requests go on.
func (s *Sim) Release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.release)
	s.release = make(chan struct{})
}

// Held is how many requests wait for Release.
func (s *Sim) Held() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held
}

func (s *Sim) hold() bool {
	s.mu.Lock()
	s.held++
	released := s.release
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.held--
		s.mu.Unlock()
	}()
	select {
	case <-released:
		return true
	case <-s.done:
		return false
	}
}
