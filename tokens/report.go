package tokens

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// report writes the one event of a refresh: all that is needed to explain an
// incident.
func (s *Source) report(f *flight, waiters int, err error) {
	if f.result == "" || err != nil {
		f.result = resultOf(err)
	}
	took := time.Since(f.begun)
	s.opts.Metrics.refreshes[f.result].Inc()
	s.opts.Metrics.duration.Observe(took.Seconds())
	attrs := []slog.Attr{
		slog.String("connection", s.name),
		slog.String("reason", f.reason),
		slog.String("result", f.result),
		slog.Uint64("version_from", f.from.Version),
		slog.Uint64("version", f.to.Version),
		slog.Uint64("generation", f.to.Generation),
		slog.Any("token_from", f.from.Token),
		slog.Any("token", f.to.Token),
		slog.Int("attempt", f.tries),
		slog.Int("waiters", waiters),
		slog.Duration("lock_wait", f.lockWait),
		slog.Duration("duration", took),
	}
	if end := f.to.Token.End(); !end.IsZero() {
		attrs = append(attrs, slog.Duration("expires_in", time.Until(end)))
	}
	if err != nil {
		attrs = append(attrs, slog.Any("err", err))
	}
	level := levelOf(f.result)
	if errors.Is(err, errUnsaved) {
		level = slog.LevelError
		attrs = append(attrs, slog.Bool("spooled", s.opts.Spool != nil))
	}
	s.opts.Log.LogAttrs(context.Background(), level, "refresh", attrs...)
}

func resultOf(err error) string {
	switch {
	case err == nil:
		return resultAdopted // left the line, or doubt ended by itself
	case errors.Is(err, ErrLoginRequired), errors.Is(err, ErrUnknownConnection):
		return resultLogin
	case errors.Is(err, ErrClientRejected):
		return resultClient
	case errors.Is(err, ErrStoreUnavailable):
		return resultStore
	}
	return resultFailed
}

func levelOf(result string) slog.Level {
	switch result {
	case resultRotated:
		return slog.LevelInfo
	case resultAdopted, resultPostponed, resultSuperseded:
		return slog.LevelDebug
	}
	return slog.LevelWarn
}
