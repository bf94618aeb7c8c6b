package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// statusCallerLeft is logged and counted for a caller that left before it was
// answered. nginx made the number up; nobody is ever sent it.
const statusCallerLeft = 499

// loggedPath bounds the path in a log record, in bytes.
const loggedPath = 512

// observer counts, logs and guards against panics. Its own state is atomic: a
// request takes no lock here.
type observer struct {
	log      *slog.Logger
	requests *prometheus.CounterVec
	// byCode holds the children of requests, by retried and status, each made at
	// its first use: to look one up by label takes an allocation.
	byCode   [2][600]atomic.Pointer[prometheus.Counter]
	duration prometheus.Histogram
	rejected prometheus.Counter

	made     time.Time
	inFlight atomic.Int64
	last     atomic.Int64 // nanoseconds after made, of the last begin or end
}

func newObserver(log *slog.Logger, metrics prometheus.Registerer) (*observer, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	o := &observer{
		log:  log,
		made: time.Now(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pleo_sidecar_requests_total",
			Help: "Requests answered, by status code (499: the caller left first) and by whether they were sent again after a 401.",
		}, []string{"code", "retried"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "pleo_sidecar_request_duration_seconds",
			Help: "Time from the request's header to the end of the answer.",
			// From a fast read of the API to uploads and downloads of tens of
			// megabytes; the last but one is where the upstream's time ends.
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120},
		}),
		rejected: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "pleo_sidecar_upstream_401_total",
			Help: "Answers of the upstream with status 401, first and second ones.",
		}),
	}
	if metrics == nil {
		return o, nil
	}
	for _, c := range []prometheus.Collector{o.requests, o.duration, o.rejected} {
		if err := metrics.Register(c); err != nil {
			return nil, err
		}
	}
	return o, nil
}

// serve runs next for one request and writes down how it went, also when next
// panics: a cut answer ends in a panic with http.ErrAbortHandler, which must
// reach the server.
func (o *observer) serve(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
	c := &call{recorder: recorder{ResponseWriter: w}, began: time.Now()}
	o.inFlight.Add(1)
	o.last.Store(int64(c.began.Sub(o.made)))
	r = withCall(r, c)
	defer func() {
		abort := o.recovered(recover(), c, r)
		o.end(c, r, abort)
		if abort {
			panic(http.ErrAbortHandler)
		}
	}()
	next(&c.recorder, r)
}

// recovered handles the value of a panic and reports whether the answer must be
// aborted. A panic of ours is answered with a document if nothing was sent yet,
// else cut, so that half an answer does not pass for a whole one. Its value may
// hold a secret and is not logged.
func (o *observer) recovered(value any, c *call, r *http.Request) (abort bool) {
	if value == nil || isAbort(value) {
		return value != nil
	}
	o.log.LogAttrs(r.Context(), slog.LevelError, "panic",
		slog.String("request_id", c.requestID(r)),
		slog.String("type", fmt.Sprintf("%T", value)),
		slog.String("stack", string(debug.Stack())))
	if c.status != 0 || r.Context().Err() != nil {
		return true
	}
	clear(c.recorder.Header())
	answer(&c.recorder, r, errPanic)
	return false
}

// isAbort reports whether the value of a panic only says that an answer was cut.
func isAbort(value any) bool {
	err, ok := value.(error)
	return ok && errors.Is(err, http.ErrAbortHandler)
}

// end counts and logs one request.
func (o *observer) end(c *call, r *http.Request, aborted bool) {
	took := time.Since(c.began)
	o.last.Store(int64(c.began.Add(took).Sub(o.made)))
	o.inFlight.Add(-1)
	status := c.status
	switch {
	case status == 0 && aborted:
		status = statusCallerLeft
	case status == 0:
		status = http.StatusOK
	}
	o.child(status, c.retried).Inc()
	o.duration.Observe(took.Seconds())
	level := levelOf(status, c.problem, aborted && r.Context().Err() == nil)
	if o.log.Enabled(r.Context(), level) {
		o.record(c, r, level, status, aborted, took)
	}
}

// levelOf says how much an answer deserves to be read: warn for what an operator
// may have to look into, info for what a caller may, debug for the rest.
func levelOf(status int, s slug, cut bool) slog.Level {
	switch {
	case cut || status >= 500 || s == slugLoginRequired:
		return slog.LevelWarn
	case status == statusCallerLeft || status < 300:
		return slog.LevelDebug
	default:
		return slog.LevelInfo
	}
}

// record writes the access log: no query, no field, no content, since any of
// them may hold what is not ours to keep.
func (o *observer) record(c *call, r *http.Request, level slog.Level, status int, aborted bool, took time.Duration) {
	attrs := make([]slog.Attr, 0, 14)
	attrs = append(attrs,
		slog.String("method", r.Method),
		slog.String("path", bounded(wirePath(r.URL))),
		slog.Int("status", status),
		slog.Duration("duration", took),
		slog.String("connection", c.connection),
		slog.Bool("retried", c.retried),
		slog.Int64("bytes", c.bytes),
		slog.String("request_id", c.requestID(r)))
	if id := traceID(r.Header.Get("Traceparent")); id != "" {
		attrs = append(attrs, slog.String("trace_id", id))
	}
	if c.skipped != "" {
		attrs = append(attrs, slog.String("retry_skipped", string(c.skipped)))
	}
	if c.problem != "" {
		attrs = append(attrs, slog.String("reason", string(c.problem)), slog.String("err", c.cause.Error()))
	}
	if aborted {
		attrs = append(attrs, slog.Bool("aborted", true))
	}
	o.log.LogAttrs(context.WithoutCancel(r.Context()), level, "request", attrs...)
}

// child returns the counter of status and retried. A status that is none of
// HTTP's counts as "other", so that an upstream cannot make series at will.
func (o *observer) child(status int, retried bool) prometheus.Counter {
	code, again := "other", 0
	if http.StatusText(status) != "" || status == statusCallerLeft {
		code = strconv.Itoa(status)
	} else {
		status = 0
	}
	if retried {
		again = 1
	}
	slot := &o.byCode[again][status]
	if c := slot.Load(); c != nil {
		return *c
	}
	c := o.requests.WithLabelValues(code, strconv.FormatBool(retried))
	slot.Store(&c)
	return c
}

func (o *observer) lastCall() time.Time { return o.made.Add(time.Duration(o.last.Load())) }

// bounded cuts what is too long for a log record.
func bounded(s string) string {
	if len(s) <= loggedPath {
		return s
	}
	return s[:loggedPath] + "..."
}

// traceID returns the trace id of a traceparent (W3C Trace Context 3.2.2), ""
// when it is malformed.
func traceID(parent string) string {
	if len(parent) < 55 || parent[2] != '-' || parent[35] != '-' || parent[52] != '-' {
		return ""
	}
	id := parent[3:35]
	if strings.Trim(id, "0123456789abcdef") != "" || strings.Trim(id, "0") == "" {
		return ""
	}
	return id
}
