package proxy

import (
	"context"
	"log/slog"
	"net/http"
	"time"
)

// Limits of a network connection from a caller. There is no limit on reading or
// writing content: it would cut streams and large files.
const (
	readHeaderTimeout = 10 * time.Second
	// callerIdleTimeout is long, because the side that closes an idle connection
	// first makes the other's next call fail now and then; callers' pools are to
	// be the first.
	callerIdleTimeout = 5 * time.Minute
	maxHeaderBytes    = 64 << 10
)

// NewServer returns a server for h that speaks HTTP/1.1 and, to callers that begin
// with it, HTTP/2 without TLS. log takes its complaints; nil discards them.
func NewServer(h http.Handler, log *slog.Logger) *http.Server {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler:           h,
		Protocols:         protocols,
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       callerIdleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		// OPTIONS * is for the guard to judge like everything else.
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}

// Linger returns when quiet has passed since it was called without a request
// coming or being served, or when ctx ends. A plain second container needs it: the
// app beside it may still send after both were told to stop. A quiet of 0 returns
// at once.
func (h *Handler) Linger(ctx context.Context, quiet time.Duration) {
	if quiet <= 0 {
		return
	}
	from := time.Now()
	for {
		if last := h.LastCall(); last.After(from) {
			from = last
		}
		wait := quiet - time.Since(from)
		if h.InFlight() > 0 {
			wait = quiet // its end will move LastCall
		}
		if wait <= 0 {
			return
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}
