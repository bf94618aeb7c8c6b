package e2e

import (
	"strings"
	"syscall"
	"testing"

	"pleo-sidecar/tokens/pleosim"
)

func TestSignalFinishesOpenCalls(t *testing.T) {
	s, call := withHeldCall(t)
	s.signal()
	s.await("shutting down")
	s.Release()
	if r := receive(t, call); r.err != nil || r.status != 200 {
		t.Errorf("an open call got %d, %v", r.status, r.err)
	}
	if code := s.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestSecondSignalEndsTheWaitingForCalls(t *testing.T) {
	s, call := withHeldCall(t)
	s.signal()
	s.await("shutting down")
	s.signal()
	if code := s.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if r := receive(t, call); r.err == nil {
		t.Errorf("the call was answered: %d", r.status)
	}
	s.await("calls were cut")
}

// withHeldCall returns a sidecar with one call that Pleo does not answer until
// Release.
func withHeldCall(t *testing.T) (*sidecar, <-chan response) {
	t.Helper()
	w := newWorld(t, pleosim.Options{})
	w.start().stop()
	w.grantTo("default")
	s := w.start()
	s.want(whoami, 200)
	arrived := w.arrival(pleosim.AtResource, pleosim.Arrived)
	w.Resource.Next(pleosim.Fault{Hold: true})
	call := s.later(whoami)
	receive(t, arrived)
	until(t, func() bool { return w.Held() == 1 })
	return s, call
}

func TestSecondSignalDoesNotLoseAPairThatWasIssued(t *testing.T) {
	w := newWorld(t, pleosim.Options{})
	w.start().stop()
	w.grantTo("default")
	s := w.start()
	w.Token.Next(pleosim.Fault{Hold: true, After: true})
	s.later(whoami)
	until(t, func() bool { return w.Held() == 1 }) // the old pair is dead, the new one on its way
	s.signal()
	s.await("shutting down")
	s.signal()
	s.await("second signal: waiting for no more calls")
	w.Release()
	if code := s.wait(); code != 0 {
		t.Fatalf("exit code %d:\n%s", code, w.written())
	}
	if code, out := w.run("", "status"); code != 0 || !strings.Contains(out, "default     ok     3        1 ") {
		t.Errorf("status ended with %d: %s", code, out)
	}
	s = w.start()
	s.want(whoami, 200)
	s.stop()
	if n := w.presentations(); n != 1 {
		t.Errorf("%d presentations", n)
	}
}

func TestLingerGoesOnAcceptingUntilItIsQuiet(t *testing.T) {
	w := newWorld(t, pleosim.Options{}).with("SHUTDOWN_LINGER=2s")
	w.start().stop()
	w.grantTo("default")
	s := w.start()
	s.signal()
	s.await("shutting down")
	s.want(whoami, 200)
	if r := get(t.Context(), s.admin+"/readyz"); r.status != 503 {
		t.Errorf("ready while shutting down: %d", r.status)
	}
	if code := s.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestInterruptEndsItToo(t *testing.T) {
	s := newWorld(t, pleosim.Options{}).start()
	if err := s.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if code := s.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
