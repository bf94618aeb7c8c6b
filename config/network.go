package config

import (
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// addresses checks what we listen on and where Redis listens.
func (c checker) addresses() {
	c.listener("listen", c.Listen)
	c.listener("admin.listen", c.Admin.Listen)
	if c.sound("listen", "admin.listen") && collide(c.Listen, c.Admin.Listen) {
		c.refuse("admin.listen", "must not have the address of listen")
	}
	for i, addr := range c.Store.Redis.Addrs {
		if host, port, ok := splitAddress(addr); !ok || host == "" || port == 0 {
			c.refuse("store.redis.addrs", "entry %d must be host:port", i+1)
		}
	}
}

// collide reports whether two listeners want the same port of one interface.
func collide(a, b string) bool {
	hostA, portA, _ := splitAddress(a)
	hostB, portB, _ := splitAddress(b)
	return portA == portB && portA != 0 && (hostA == hostB || everyInterface(hostA) || everyInterface(hostB))
}

// everyInterface reports whether a listener on host takes its port everywhere.
func everyInterface(host string) bool { return host == "" || host == "0.0.0.0" || host == "::" }

// listener checks the address of a listener, of which the host may be missing.
func (c checker) listener(path, addr string) {
	if _, _, ok := splitAddress(addr); !ok {
		c.refuse(path, "must be host:port or :port, with a number as port")
	}
}

// callers checks who may call: without a token only what runs on our host.
func (c checker) callers() {
	if c.sound("listen", "callers.token", "callers.token_file") &&
		c.Callers.Token.IsZero() && !loopbackAddress(c.Listen) {
		c.refuse("callers.token", "must not be empty when listen is not loopback")
	}
	if !headerSafe.MatchString(c.Callers.Token.Reveal()) {
		c.refuse("callers.token", "must have only the characters of a bearer token: letters, digits and - . _ ~ + / =")
	}
	for i, host := range c.Callers.Hosts {
		if !hostName(host) {
			c.refuse("callers.hosts", "entry %d must be a host or host:port", i+1)
		}
	}
}

// headerSafe is b64token of RFC 6750, section 2.1, or nothing.
var headerSafe = regexp.MustCompile(`^([A-Za-z0-9._~+/-]+=*)?$`)

// urls checks the URLs to which secrets go.
func (c checker) urls() {
	c.secureURL("oauth.authorization_url", c.OAuth.AuthorizationURL)
	c.secureURL("oauth.token_url", c.OAuth.TokenURL)
	c.secureURL("oauth.introspection_url", c.OAuth.IntrospectionURL)
	c.secureURL("oauth.redirect_url", c.OAuth.RedirectURL)
	c.secureURL("upstream.url", c.Upstream.URL)
	if u, err := url.Parse(c.Upstream.URL); err == nil && (u.Path != "" || u.RawQuery != "" || u.ForceQuery) {
		c.refuse("upstream.url", "must have no path and no query: they come from the caller")
	}
}

// secureURL checks an absolute URL over which secrets may travel. An empty one
// was preset, is optional, or waits for a known environment.
func (c checker) secureURL(path, text string) {
	if text == "" {
		return
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "" || (u.Scheme != "https" && u.Scheme != "http"):
		c.refuse(path, "must be an absolute URL, beginning with https://")
	case u.User != nil:
		c.refuse(path, "must not contain a user or password")
	case strings.Contains(text, "#"):
		c.refuse(path, "must not contain a fragment")
	case u.Scheme == "http" && !loopbackHost(u.Hostname()):
		c.refuse(path, "must begin with https://, since only loopback may be reached in plain text")
	case !validPort(u):
		c.refuse(path, "must have a port from 1 to 65535, or none")
	default:
		c.sameEnvironment(path, u.Hostname())
	}
}

// validPort reports whether the port of a URL, if it has one, exists.
func validPort(u *url.URL) bool {
	if u.Port() == "" {
		return !strings.HasSuffix(u.Host, ":")
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	return err == nil && port > 0
}

// sameEnvironment refuses a host of the other Pleo environment: it would be sent
// secrets that are not its own.
func (c checker) sameEnvironment(path, host string) {
	if other := environmentOf(host); other != "" && other != c.Environment && c.sound("environment") {
		c.refuse(path, "belongs to environment %s, but environment is %s", other, c.Environment)
	}
}

// splitAddress splits host:port. The host may be empty, and is then every
// interface.
func splitAddress(addr string) (host string, port uint16, ok bool) {
	host, digits, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || (host != "" && !hostName(net.JoinHostPort(host, digits))) {
		return "", 0, false
	}
	return host, uint16(n), true
}

// dnsName is labels of letters, digits, - and _, with dots between them.
var dnsName = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?$`)

// hostName reports whether text is a host or host:port, as in a Host field: an
// IPv6 address stands in brackets.
func hostName(text string) bool {
	host := text
	if h, port, err := net.SplitHostPort(text); err == nil {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return false
		}
		host = h
	} else if inner, ok := strings.CutPrefix(text, "["); ok && strings.HasSuffix(inner, "]") {
		host = strings.TrimSuffix(inner, "]")
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Is4() || text != host
	}
	return len(host) <= 253 && dnsName.MatchString(host)
}

// loopbackAddress reports whether a listener can be reached from our own host
// only. A name other than localhost may resolve to anything.
func loopbackAddress(addr string) bool {
	host, _, _ := splitAddress(addr)
	return loopbackHost(host)
}

// loopbackHost reports whether a host is 127.0.0.0/8, ::1 or localhost.
func loopbackHost(host string) bool {
	ip, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && ip.IsLoopback()
}
