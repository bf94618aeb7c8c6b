package proxy

import "net/http"

// own answers a request into our own namespace, /-/. It is closed: none of it is
// ever forwarded.
func own(*http.Request) error {
	return refuse(slugNotFound, "")
}
