package e2e

import (
	"testing"

	"pleo-sidecar/tokens/pleosim"
)

// brief makes doubt last three seconds instead of a minute.
func (w *world) brief() *world {
	return w.with("REFRESH_SEND_WINDOW=1s", "REFRESH_NETWORK_LIFE=2s", "REFRESH_TIMEOUT=2500ms")
}

// kill ends the process as a crash would.
func (s *sidecar) kill() {
	s.Helper()
	if err := s.cmd.Process.Kill(); err != nil {
		s.Fatal(err)
	}
	s.wait()
}

func TestKilledProcessLosesNothingThatWasSaved(t *testing.T) {
	w := newWorld(t, pleosim.Options{})
	w.start().stop()
	w.grantTo("default")
	s := w.start()
	s.want(whoami, 200)
	s.await("refresh")
	s.kill()
	s = w.start()
	s.want(whoami, 200)
	s.stop()
	if n := w.presentations(); n != 1 {
		t.Errorf("%d presentations", n)
	}
}

func TestRequestThatNeverReachedPleoIsSentAgainAfterAKill(t *testing.T) {
	w := newWorld(t, pleosim.Options{}).brief()
	w.start().stop()
	w.grantTo("default")
	s := w.start()
	cut := w.arrival(pleosim.AtToken, pleosim.Arrived)
	w.Token.Next(pleosim.Fault{Cut: true, Hold: true})
	s.later(whoami)
	receive(t, cut)
	s.kill()
	w.Release()
	s = w.start()
	s.want(whoami, 200)
	s.stop()
	if n := w.presentations(); n != 1 {
		t.Errorf("%d presentations", n)
	}
}

func TestPairThatDiedWithItsProcessNeedsALoginAndIsNotGuessedAt(t *testing.T) {
	w := newWorld(t, pleosim.Options{}).brief()
	w.start().stop()
	w.grantTo("default")
	s := w.start()
	w.Token.Next(pleosim.Fault{Hold: true, After: true})
	s.later(whoami)
	until(t, func() bool { return w.Held() == 1 })
	s.kill()
	w.Release()
	s = w.start()
	if r := s.want(whoami, 401); r.slug() != "login-required" {
		t.Errorf("got %q", r.slug())
	}
	s.stop()
	if n := w.presentations(); n != 1 {
		t.Errorf("%d presentations: the spent token was shown again", n)
	}
}
