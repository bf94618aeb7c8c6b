// Package tokens always has a good token for a connection: it keeps the pair,
// refreshes it, seals it and stores it.
//
// At Pleo each refresh kills the former access token and refresh token at once,
// and presenting a dead refresh token can revoke the grant; then only a person
// can help. So the package promises:
//
//   - A refresh token is never presented twice, by any process, in any crash,
//     pause, partition or failover that can be ruled out.
//   - A pair that was issued is never lost while a process that knows it lives.
//   - While the grant is good, no call fails for its token's age or rotation.
//   - Once the grant is dead, nothing more is sent, and whoever must know is told.
//   - A token appears in no log, error or metric, and at rest only sealed.
//   - A call with a good token costs an atomic load: no store, no lock, no
//     allocation.
//
// Three ideas carry them. The store's compare-and-swap is the truth, and a lock
// only saves effort. Before a refresh token is presented the record is claimed in
// the store, so that whoever finds a claim knows that the token may be spent. And
// what may be spent is not presented again before it has rested for as long as a
// request can live, and the authorization server was asked about it.
//
// What the package does not do: it forwards no calls (package proxy), it revokes
// nothing at Pleo, and it does not know which run of a file was restored from a
// backup. README.md has the protocol, its rules and what cannot be excluded.
//
// # Words
//
//	connection   one customer's grant: name, record, gate
//	token, pair  access token, refresh token, end
//	record       what the store keeps of a connection; version its counter
//	present      send a refresh token to the token endpoint
//	rejected     answered 401 by the upstream
//	claim        the mark, saved before sending, that a refresh token is being spent
//	lost answer  a refresh was sent and no answer saved
//	doubt        a record may stand on a spent token; quiet is how long it rests
//	resolve      find out whether the token was spent
//	run          the life of one store process
//	root, epoch, generation
//	             first refresh token of a grant; order of grants; rotations within one
//	late answer  one that is saved after others resolved; it wins
//	gate         holds new calls while the connection is refreshed anywhere
//	flight       the one refresh of a connection in this process
//	brake        no refresh for a 401 on a token seconds old
//	seed         a refresh token from the configuration
//	spool        the local sealed file for a pair the store may not have
package tokens
