package proxy

import (
	"net/url"
	"path"
	"strings"

	"pleo-sidecar/tokens"
)

// target is where the path of a request leads.
type target struct {
	own        bool   // into our own namespace, /-/
	connection string // "" is the default connection
	path       string // the upstream's, escaped, beginning with /
}

// route reads the path of u. /@name/rest is /rest on the connection name, /-/...
// is ours, and all else is the default connection's. What only looks like one of
// the two prefixes once it is decoded or cleaned is refused: it must neither reach
// the upstream with the default connection's token, nor pick a connection that
// somebody in front of us, reading it literally, did not see.
func route(u *url.URL) (target, error) {
	raw := wirePath(u)
	switch {
	case !strings.HasPrefix(raw, "/"):
		return target{}, refuse(slugBadRequest, "The request target must be a path.")
	case strings.HasPrefix(raw, "/@"):
		name, rest := raw[2:], "/"
		if i := strings.IndexByte(name, '/'); i >= 0 {
			name, rest = name[:i], name[i:]
		}
		if !tokens.ValidConnection(name) {
			return target{}, refuse(slugBadRequest, "A connection name is 1 to 63 of a-z, 0-9, - and _, beginning and ending with a letter or digit.")
		}
		return target{connection: name, path: legal(rest)}, nil
	case ownPath(raw):
		return target{own: true}, nil
	case disguised(u.Path):
		return target{}, refuse(slugBadRequest, "Write /@name/ and /-/ plainly at the beginning of the path.")
	default:
		return target{path: legal(raw)}, nil
	}
}

// wirePath returns the path of u as the caller wrote it. URL.EscapedPath would
// not do: for a path with a byte that URLs must not hold, such as {, it decodes
// and encodes all of it, so that %2F becomes / and %40acme becomes @acme.
func wirePath(u *url.URL) string {
	switch {
	case u.Opaque != "":
		return u.Opaque
	case u.RawPath != "":
		return u.RawPath
	case u.Path == "" && u.Host != "":
		return "/" // absolute-form without a path
	}
	return u.EscapedPath()
}

// disguised reports whether a decoded path leads to one of our prefixes once
// empty, . and .. segments are resolved.
func disguised(decoded string) bool {
	clean := path.Clean(decoded)
	return strings.HasPrefix(clean, "/@") || ownPath(clean)
}

// ownPath reports whether p lies in our own namespace.
func ownPath(p string) bool { return p == "/-" || strings.HasPrefix(p, "/-/") }

// legal returns the escaped path p with the bytes that a URL must not hold
// escaped, and every other byte as it is.
func legal(p string) string {
	for i := range len(p) {
		if !legalByte(p[i]) {
			return escapeIllegal(p)
		}
	}
	return p
}

func escapeIllegal(p string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(p) {
		if c := p[i]; legalByte(c) {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		}
	}
	return b.String()
}

// legalByte reports whether package url leaves c alone in an escaped path:
// RFC 3986 3.3, and the brackets that browsers leave alone too.
func legalByte(c byte) bool {
	return alphanumeric(c) || strings.IndexByte("/%-_.~!$&'()*+,;=:@[]", c) >= 0
}
