package tokens

import (
	"context"
	"testing"
	"time"
)

// warm returns a source with a good token, which needs no store for an hour.
func warm(tb testing.TB) *Source {
	endpoint, err := NewEndpoint(EndpointOptions{TokenURL: "http://127.0.0.1:9", ClientID: "id", ClientSecret: NewSecret("secret")})
	if err != nil {
		tb.Fatal(err)
	}
	o, err := Options{Store: NewMemory(), Locker: brokenLocker{}, Endpoint: endpoint, Default: "default"}.withDefaults()
	if err != nil {
		tb.Fatal(err)
	}
	s := newSource(&o, "default")
	tb.Cleanup(func() { s.shut(func(*flight) {}) })
	now := time.Now()
	s.remember(Record{
		Version: 1, Attempt: "a", Run: "r", Seen: Seen{Version: 1, Run: "r"}, State: StateOK,
		Token: NewToken(Pair{Access: NewSecret("access"), Refresh: NewSecret("refresh"), Issued: now, End: now.Add(time.Hour)}),
	})
	return s
}

func TestWarmTokenAllocatesNothing(t *testing.T) {
	s, ctx := warm(t), context.Background()
	header := map[string][]string{"Authorization": nil}
	allocs := testing.AllocsPerRun(1000, func() {
		token, err := s.Token(ctx)
		if err != nil {
			t.Fatal(err)
		}
		token.Attach(header)
	})
	if allocs != 0 {
		t.Errorf("%v allocations a call, want 0", allocs)
	}
}

func BenchmarkTokenWarm(b *testing.B) {
	s, ctx := warm(b), context.Background()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Token(ctx); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTokenWarmParallel(b *testing.B) {
	s, ctx := warm(b), context.Background()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := s.Token(ctx); err != nil {
				b.Fatal(err)
			}
		}
	})
}
