package proxy

import (
	"net/http"
	"strconv"
	"strings"
)

// ourPrefix begins the names of the response fields that only we set, so that a
// caller can trust them.
const ourPrefix = "Pleo-Sidecar-"

// stripRequest removes from an upstream request what the caller's own network
// knows and the upstream must not: its credentials, cookies, addresses.
// ReverseProxy has removed the hop-by-hop fields and some of these.
func stripRequest(h http.Header) {
	for name := range h {
		if private(name) {
			delete(h, name)
		}
	}
}

// private reports whether the request field name stays with us. Names are in
// canonical form.
func private(name string) bool {
	switch name {
	case "Authorization", "Cookie", "Forwarded", "X-Forwarded", "X-Real-Ip",
		"X-Client-Ip", "X-Cluster-Client-Ip", "True-Client-Ip", "Cf-Connecting-Ip", "Fastly-Client-Ip":
		return true
	}
	// X-Original-* comes from an ingress, X-Envoy-* from a mesh.
	return strings.HasPrefix(name, "X-Original-") || strings.HasPrefix(name, "X-Envoy-") || strings.HasPrefix(name, "Proxy-") || strings.HasPrefix(name, "X-Forwarded-") ||
		strings.HasPrefix(name, ourPrefix)
}

// stripResponse removes from an answer the fields that may only be ours, and
// Alt-Svc, which would invite the caller to go around us.
func stripResponse(res *http.Response) {
	stripOurs(res.Header)
	stripOurs(res.Trailer)
}

func stripOurs(h http.Header) {
	for name := range h {
		if name == "Alt-Svc" || strings.HasPrefix(name, ourPrefix) {
			delete(h, name)
		}
	}
}

// stripTrailers does the same for trailers that the upstream had not announced:
// ReverseProxy has put them into h under a prefix.
func stripTrailers(h http.Header, res *http.Response) {
	if res == nil || len(res.Trailer) == 0 {
		return
	}
	for name := range h {
		if strings.HasPrefix(name, http.TrailerPrefix+ourPrefix) || name == http.TrailerPrefix+"Alt-Svc" {
			delete(h, name)
		}
	}
}

// via are the values of Via that nearly every message gets, shared and not to
// be changed in place.
var via = map[[2]int][]string{
	{1, 0}: {"1.0 pleo-sidecar"},
	{1, 1}: {"1.1 pleo-sidecar"},
	{2, 0}: {"2 pleo-sidecar"},
}

// addVia says that a message came in HTTP major.minor and went on through us,
// which RFC 9110 7.6.3 demands of a gateway. The name is a pseudonym: no host of
// ours shows.
func addVia(h http.Header, major, minor int) {
	ours, ok := via[[2]int{major, minor}]
	if !ok {
		ours = []string{strconv.Itoa(major) + " pleo-sidecar"}
	}
	if former := h["Via"]; len(former) > 0 {
		ours = append(former[:len(former):len(former)], ours...)
	}
	h["Via"] = ours
}
