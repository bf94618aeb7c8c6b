package proxy

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"pleo-sidecar/tokens"
)

// guard refuses what must not borrow a token. Listening on the loopback is not
// enough: a browser reaches it on behalf of any page (DNS rebinding, cross-site
// requests).
type guard struct {
	hosts map[string]bool // lower case, with or without port
	asks  bool            // whether callers must show a token
	token [sha256.Size]byte
}

func newGuard(listen string, hosts []string, token tokens.Secret) *guard {
	g := &guard{
		hosts: map[string]bool{"localhost": true},
		asks:  !token.IsZero(),
		token: sha256.Sum256([]byte(token.Reveal())),
	}
	if host, _, err := net.SplitHostPort(listen); err == nil && !everyAddress(host) {
		g.hosts[bare(host)] = true
	}
	for _, host := range hosts {
		if _, _, err := net.SplitHostPort(host); err == nil {
			g.hosts[strings.ToLower(host)] = true
		} else {
			g.hosts[bare(host)] = true
		}
	}
	delete(g.hosts, "")
	return g
}

// everyAddress reports whether the host of a listen address stands for all
// addresses, and so names none.
func everyAddress(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "" || err == nil && addr.IsUnspecified()
}

// check returns nil if r may be forwarded, else the refusal to answer with.
func (g *guard) check(r *http.Request) error {
	switch {
	case forbiddenMethod(r.Method):
		return refuse(slugCallerRefused, "CONNECT and TRACE are not forwarded.")
	case r.URL.Host != "" && !g.ours(r.URL.Host), !g.ours(r.Host):
		return refuse(slugWrongHost, "")
	case r.URL.Scheme != "" && r.URL.Scheme != "http":
		return refuse(slugBadRequest, "The request target must be a path.")
	case foreignPage(r):
		return refuse(slugCallerRefused, "")
	case g.asks && !g.authenticated(r.Header["Authorization"]):
		return refuse(slugCallerUnauthenticated, "")
	}
	return nil
}

// forbiddenMethod reports whether method would turn us into a tunnel or make the
// upstream repeat the token in its answer. Case is ignored because an upstream
// might ignore it.
func forbiddenMethod(method string) bool {
	return strings.EqualFold(method, http.MethodConnect) ||
		strings.EqualFold(method, http.MethodTrace) || strings.EqualFold(method, "TRACK")
}

// ours reports whether host, a Host field, is a name for us. Ports do not matter:
// they are forwarded and mapped in many ways, and a page elsewhere cannot have
// our name under any of them.
func (g *guard) ours(host string) bool {
	name := bare(host)
	if g.hosts[name] || g.hosts[strings.ToLower(host)] {
		return true
	}
	addr, err := netip.ParseAddr(name)
	return err == nil && addr.Unmap().IsLoopback()
}

// bare returns host in lower case, without port, brackets and the root's dot.
func bare(host string) string {
	host = strings.ToLower(host)
	if name, port, err := net.SplitHostPort(host); err == nil && strings.Trim(port, "0123456789") == "" {
		host = name
	}
	if len(host) > 1 && host[0] == '[' && host[len(host)-1] == ']' {
		host = host[1 : len(host)-1]
	}
	return strings.TrimSuffix(host, ".")
}

// foreignPage reports whether a browser sends r for a page that is not ours. The
// rules are those of http.CrossOriginProtection, but safe methods get no leave:
// if the upstream's answer allows any origin to read it, a GET borrows the token
// as well as a POST does. Callers that are no browsers send neither field.
func foreignPage(r *http.Request) bool {
	if sites := r.Header["Sec-Fetch-Site"]; len(sites) > 0 {
		for _, site := range sites {
			if site != "same-origin" && site != "none" {
				return true
			}
		}
		return false
	}
	for _, origin := range r.Header["Origin"] {
		if u, err := url.Parse(origin); err != nil || u.Host == "" || u.Host != r.Host {
			return true
		}
	}
	return false
}

// authenticated reports whether values, those of Authorization, are exactly one
// bearer and it is the caller token. Hashes are compared, in constant time, so
// that not even the token's length shows.
func (g *guard) authenticated(values []string) bool {
	if len(values) != 1 {
		return false
	}
	scheme, shown, _ := strings.Cut(values[0], " ")
	sum := sha256.Sum256([]byte(strings.TrimLeft(shown, " ")))
	return strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(sum[:], g.token[:]) == 1
}
