package config

import (
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestLoggerWritesTheConfiguredFormatFromTheConfiguredLevelOn(t *testing.T) {
	for _, test := range []struct {
		log  Log
		want string // of the attribute; "" when the record is not written
	}{
		{Log{Level: "info", Format: "json"}, `"duration":1.5`},
		{Log{Level: "info", Format: "text"}, "duration=1.5s"},
		{Log{Level: "debug", Format: "json"}, `"level":"INFO"`},
		{Log{Level: "warn", Format: "json"}, ""},
		{Log{Level: "error", Format: "text"}, ""},
	} {
		var out strings.Builder
		test.log.Logger(&out).Info("refresh", slog.Duration("duration", 1500*time.Millisecond))
		if got := out.String(); (got == "") != (test.want == "") || !strings.Contains(got, test.want) {
			t.Errorf("%+v: got %q, want %q", test.log, got, test.want)
		}
	}
}
