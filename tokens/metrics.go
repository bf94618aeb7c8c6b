package tokens

import (
	"github.com/prometheus/client_golang/prometheus"
)

// Results of a refresh, label of refreshes_total and attribute of its event.
const (
	resultRotated    = "rotated"         // a new pair is saved
	resultAdopted    = "adopted"         // another process had one
	resultPostponed  = "postponed"       // doubt settled; the old token serves on
	resultSuperseded = "superseded"      // a newer pair, grant or tombstone won
	resultBraked     = "braked"          // no refresh for a token seconds old
	resultLost       = "lost_answer"     // sent, and nothing that can be read came back
	resultLogin      = "login_required"  // only a person can repair the grant
	resultClient     = "client_rejected" // client id or secret refused
	resultStore      = "store_unavailable"
	resultFailed     = "failed"
)

// Metrics are the figures of all connections of a process, children made in
// advance. Use NewMetrics.
type Metrics struct {
	refreshes   map[string]prometheus.Counter
	storeErrors map[string]prometheus.Counter
	duration    prometheus.Histogram
	lockWait    prometheus.Histogram
	gateWait    prometheus.Histogram
	lockLost    prometheus.Counter
	conflicts   prometheus.Counter
	rollbacks   prometheus.Counter
}

const namespace = "pleo_sidecar"

// NewMetrics makes the metrics and registers them with r; nil registers nothing.
// It panics when they are registered already, as client_golang does.
func NewMetrics(r prometheus.Registerer) *Metrics {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help})
		register(r, c)
		return c
	}
	counters := func(name, help, label string, values ...string) map[string]prometheus.Counter {
		vec := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, []string{label})
		register(r, vec)
		children := map[string]prometheus.Counter{}
		for _, v := range values {
			children[v] = vec.WithLabelValues(v)
		}
		return children
	}
	histogram := func(name, help string) prometheus.Histogram {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Name: name, Help: help,
			// From a local store's milliseconds to the quiet time of 65 s.
			Buckets: []float64{.001, .005, .025, .1, .25, .5, 1, 2.5, 5, 10, 20, 70},
		})
		register(r, h)
		return h
	}
	return &Metrics{
		refreshes: counters("refreshes_total", "Refreshes by result.", "result",
			resultRotated, resultAdopted, resultPostponed, resultSuperseded, resultBraked, resultLost,
			resultLogin, resultClient, resultStore, resultFailed),
		storeErrors: counters("store_errors_total", "Store operations that failed.", "op", "load", "save", "list"),
		duration:    histogram("refresh_duration_seconds", "From the start of a refresh to its end, waiting included."),
		lockWait:    histogram("lock_wait_seconds", "Waiting for the lock of a connection."),
		gateWait:    histogram("gate_wait_seconds", "Calls that waited for a token."),
		lockLost:    counter("lock_lost_total", "Locks lost while a refresh ran."),
		conflicts:   counter("save_conflicts_total", "Saves refused because another process wrote first."),
		rollbacks:   counter("store_rollbacks_total", "Records found older in the store than in memory, and repaired."),
	}
}

func register(r prometheus.Registerer, c prometheus.Collector) {
	if r != nil {
		r.MustRegister(c)
	}
}

// maxLabelled bounds how many connections have series of their own: beyond it a
// scrape would cost more than it tells; the log and status name every one.
const maxLabelled = 500

var (
	expiryDesc = prometheus.NewDesc(namespace+"_token_expiry_timestamp_seconds",
		"When the access token ends, seconds since 1970.", []string{"connection"}, nil)
	stateDesc = prometheus.NewDesc(namespace+"_connection_state",
		"1 for the state a connection is in, 0 for the others.", []string{"connection", "state"}, nil)
)

// Describe is part of prometheus.Collector.
func (c *Connections) Describe(descs chan<- *prometheus.Desc) {
	descs <- expiryDesc
	descs <- stateDesc
}

// Collect is part of prometheus.Collector: state and expiry of the connections
// in memory, up to 500 of them, read at each scrape and costing nothing between.
func (c *Connections) Collect(metrics chan<- prometheus.Metric) {
	n := 0
	c.sources.Range(func(_, value any) bool {
		s := value.(*Source)
		rec := s.remembered()
		if !rec.Exists() {
			return true
		}
		if !rec.Token.End().IsZero() {
			metrics <- prometheus.MustNewConstMetric(expiryDesc, prometheus.GaugeValue, float64(rec.Token.End().Unix()), s.name)
		}
		for _, state := range states {
			is := 0.0
			if rec.State == state {
				is = 1
			}
			metrics <- prometheus.MustNewConstMetric(stateDesc, prometheus.GaugeValue, is, s.name, string(state))
		}
		n++
		return n < maxLabelled
	})
}
