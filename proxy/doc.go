// Package proxy forwards the requests of callers to one upstream, with the
// access token of a connection attached, and sends a request once more when the
// upstream answered 401 and another token can be had.
//
//	caller ─► observe ─► guard ─► connection ─► Rewrite ─► token transport ─► http.Transport ─► upstream
//	          log,       who may   whose token,  fields      hold the body,
//	          metrics,   borrow    which path    off and on  attach, send,
//	          panics     a token                             401: refresh, send again
//
// It guarantees:
//
//   - A token goes to the upstream's scheme and host only; redirects are returned,
//     not followed. Nothing is ever sent without a token.
//   - A request is sent again only after a 401, once, with another access token,
//     and with exactly the bytes of the first time. No other answer and no error
//     makes us send again. (http.Transport itself moves a request to another
//     network connection when the first had failed before the upstream looked at
//     it: if nothing was written, if it is a GET, HEAD or OPTIONS, or if the caller
//     asks for that by an Idempotency-Key.)
//   - Path and query travel byte for byte. So does content, both ways; an answer
//     is never buffered, a request body only up to the replay limit, within a
//     budget for all. The caller's credentials, cookies and addresses stay here.
//   - What we answer ourselves is a problem document (RFC 9457) with a field
//     Pleo-Sidecar-Error. The upstream's answers never carry that field.
//   - No log record, metric or answer of ours holds a token, a field value, a
//     query or content.
//
// It does not cache, limit rates, read or rewrite content, forward Upgrade,
// CONNECT or TRACE, or carry trailers of requests. Where a body proves too long
// to be held, the 401 goes to the caller as it came, with a field
// Pleo-Sidecar-Retry that says so. A body of unknown length is read until it ends
// or passes the limit before anything is sent, so a caller that waits for the
// answer before it ends such a body waits in vain.
//
// Three ideas carry it. The token and the second try live in a RoundTripper, the
// only place that sees errors and still has the body. Every error becomes an
// answer in one table. And what a path leads to is decided on the bytes that came,
// never on a decoded form that somebody else may read differently.
//
// The package knows tokens as values with a source; where they come from, how
// they are stored and who may refresh is no matter of its.
//
// # Words
//
//	caller       the program that calls us
//	upstream     the API behind us
//	connection   one customer's grant, named in the path as /@name/; for TCP: network connection
//	guard        refuses callers that must not borrow a token
//	rejected     answered 401 by the upstream
//	attach       set the Authorization field
//	strip        remove a field
//	forward      send a request on
//	replay       send a body again
//	problem      an answer of ours instead of the upstream's; its kind is a slug
//	call         one request on its way through us
//	linger       go on accepting calls after being told to stop, until it is quiet
package proxy
