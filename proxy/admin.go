package proxy

import (
	"io"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// AdminOptions say what the admin listener reports. Each function returns nil
// when all is well, else the reason, which is shown to whoever asks and must hold
// no secret; it must be quick and safe for concurrent use. nil is always well.
type AdminOptions struct {
	Started func() error // the configuration is valid and we are listening
	Live    func() error // the process answers; never asks a store or the upstream
	Ready   func() error // calls can be served
	// Metrics are shown at /metrics. nil shows none.
	Metrics prometheus.Gatherer
}

// scrapes bounds how many scrapes run at once: whoever reaches the listener can
// ask for more.
const scrapes = 4

// NewAdmin returns the handler of the admin listener: /startupz, /livez, /readyz
// and /metrics. Nothing in it is secret and nothing acts.
func NewAdmin(o AdminOptions) http.Handler {
	mux := http.NewServeMux() // GET patterns serve HEAD too and answer 405 to the rest
	mux.Handle("GET /startupz", probe(o.Started))
	mux.Handle("GET /livez", probe(o.Live))
	mux.Handle("GET /readyz", probe(o.Ready))
	if o.Metrics != nil {
		mux.Handle("GET /metrics", promhttp.HandlerFor(o.Metrics, promhttp.HandlerOpts{MaxRequestsInFlight: scrapes}))
	}
	return mux
}

// probe answers 200 "ok", or 503 and the reason.
func probe(check func() error) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		status, text := http.StatusOK, "ok"
		if check != nil {
			if err := check(); err != nil {
				status, text = http.StatusServiceUnavailable, err.Error()
			}
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text+"\n")
	}
}
