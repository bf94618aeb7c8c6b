// Package pleosim is a Pleo to test against: an authorization server, a
// resource API and a file host, strict and hostile by design. It is no real
// Pleo. Where Pleo's pages are soft or silent, pleosim takes the hardest
// reading, so that what works here works with any milder one.
//
// Three ideas carry it:
//
// It asserts from inside. A refresh token presented after it was spent, two
// refreshes of one grant at once, a token at the wrong host, a malformed grant
// request: each is a [Violation], and fails the test at the moment it happens,
// whether or not the test looks. In the program it makes the exit status
// non-zero.
//
// A request passes fixed stages: it arrives, the work is done (for a refresh:
// the rotation), it is answered. A [Fault] strikes before or after the work, so
// "rotate, then cut" and "cut, do not rotate" are one field apart. Hooks run at
// the same stages, so a test can act exactly there.
//
// It remembers. The [Ledger] holds every presentation of every refresh token by
// fingerprint, never by value, together with what became of the answer: enough
// to say afterwards whether a pair was truly lost, and who lost it.
//
// All handlers use time.Now and timers only, resolve no names, and leave no
// goroutine behind after [Sim.Close]; a Sim made inside a testing/synctest
// bubble lives on the bubble's clock.
//
// What it does not do: it checks no scopes, knows one OAuth client, keeps
// nothing on disk, and its resource API has the shape of Pleo's, not its data.
package pleosim
