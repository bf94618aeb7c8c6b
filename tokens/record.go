package tokens

import (
	"slices"
	"time"
)

// State is what a connection's record says of its grant. The zero State is that
// of no record at all.
type State string

// The states of a record (protocol rule 2.1).
const (
	StateOK             State = "ok"              // the pair can be used
	StateClaimed        State = "claimed"         // a process is spending the refresh token
	StateLoginRequired  State = "login_required"  // only a person can repair the grant; secrets wiped
	StateClientRejected State = "client_rejected" // our client id or secret is refused; pair kept
	StateForgotten      State = "forgotten"       // a tombstone: disconnected on purpose; secrets wiped
)

// states lists them, in the order of a connection's life.
var states = []State{StateOK, StateClaimed, StateClientRejected, StateLoginRequired, StateForgotten}

// Valid reports whether s is one of the five states of a record.
func (s State) Valid() bool { return slices.Contains(states, s) }

// Record is all that a store keeps of one connection. Beside the pair it holds
// what the refresh protocol needs to order records, to notice a store that went
// back in time, and to tell who may present the refresh token.
//
// It is a value; a Store returns it and takes it, nobody shares it.
type Record struct {
	// Version is the store's compare-and-swap counter, one more for each write;
	// 0 is no record. The writer chooses it: one above both the stored version
	// and the newest it remembers.
	Version uint64
	// Attempt is random for each write and the same for its retries: a write
	// whose reply was lost is known by it when it is sent again.
	Attempt string
	// Run names the life of the store process that took this write. Another run
	// at load means that the store may have lost later writes.
	Run string

	State State
	// Doubt marks a record that may stand on a spent refresh token although
	// nobody claims it: written by repair, from a spool, or over a record that
	// was not the writer's own claim.
	Doubt bool

	Root       Fingerprint // of the grant's first refresh token; random for a tombstone
	Epoch      int64       // order of grants, milliseconds of wall time at login; 0 for a seed
	Generation uint64      // rotations of this grant so far
	Current    Fingerprint // of the refresh token it stands on; kept when the secrets are wiped
	Previous   Fingerprint // of the refresh token before that

	Claim  Claim       // who is spending the refresh token; zero unless StateClaimed
	Tries  int         // claims taken over without an introspection that could vouch for them
	Client Fingerprint // of the client id and secret that were refused, in StateClientRejected
	Reason string      // why the grant needs a person, or the client was refused; never a secret

	// Token is the pair in the clear. It exists in memory only: Seal moves it
	// into Sealed on the way to a store, and back.
	Token  Token
	Sealed []byte

	// Seen is what the store held when this record was loaded, the two things
	// that Save compares. It is not stored.
	Seen Seen
}

// Claim is the mark of the process that is about to present a refresh token.
type Claim struct {
	ID  string // random, new for every claim
	Pod string // name of the process, for people
}

// Seen is one look at a store: the run that answered and the version it held
// (0: no record).
type Seen struct {
	Version uint64
	Run     string
}

// Exists reports whether the record is one that a store held.
func (r Record) Exists() bool { return r.Version != 0 }

// Living reports whether the record holds a pair.
func (r Record) Living() bool {
	return r.State == StateOK || r.State == StateClaimed || r.State == StateClientRejected
}

// StandsOn reports whether a living record is of the grant that the refresh token
// with this fingerprint belongs to, as far as the record knows its tokens: the
// first, the present and the one before.
func (r Record) StandsOn(refresh Fingerprint) bool {
	return r.Living() && (refresh == r.Root || refresh == r.Current || refresh == r.Previous)
}

// Newer reports whether a must win over b (protocol, rule Key). No record is
// older than any. Records of one grant are ordered by generation, then version;
// grants by epoch. Versions are never compared across grants or generations: a
// store that went back in time counts them twice. Equal or unordered records
// are not newer, so that the store wins.
func Newer(a, b Record) bool {
	switch {
	case !a.Exists():
		return false
	case !b.Exists():
		return true
	case a.Root != b.Root:
		return a.Epoch > b.Epoch
	case a.Generation != b.Generation:
		return a.Generation > b.Generation
	default:
		return a.Version > b.Version
	}
}

// wipe returns r without secrets, in state s for a reason. Root, epoch,
// generation and fingerprint stay, so that a late answer still finds its place
// and a spent seed is known again.
func (r Record) wipe(s State, reason string) Record {
	r.State, r.Reason = s, reason
	r.Doubt, r.Claim, r.Tries, r.Client = false, Claim{}, 0, ""
	r.Token, r.Sealed = Token{}, nil
	return r
}

// nextEpoch returns the epoch of a login, an import or a tombstone: above all
// that the store or memory knows, and near the wall clock, so that it is above
// former ones even when the store was emptied (rule Epoch).
func nextEpoch(now time.Time, known ...Record) int64 {
	epoch := now.UnixMilli() - 1
	for _, r := range known {
		epoch = max(epoch, r.Epoch)
	}
	return epoch + 1
}
