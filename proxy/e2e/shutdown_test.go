package e2e

import (
	"encoding/json"
	"os"
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

func TestInterruptAndHangUpEndItToo(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGHUP} {
		t.Run(signal.String(), func(t *testing.T) {
			s := newWorld(t, pleosim.Options{}).start()
			if err := s.cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			if code := s.wait(); code != 0 {
				t.Errorf("exit code %d", code)
			}
		})
	}
}

// Whoever reads the log goes away. A write to nowhere must not end the process: a
// pair on its way would go with it.
func TestReaderOfTheLogMayLeave(t *testing.T) {
	w := newWorld(t, pleosim.Options{})
	w.start().stop()
	w.grantTo("default")
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := w.command("serve")
	cmd.Stderr = write
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = write.Close()
	var line struct{ Msg, Listen string }
	for lines := json.NewDecoder(read); line.Msg != "serving"; {
		if err := lines.Decode(&line); err != nil {
			t.Fatal(err)
		}
	}
	if err := read.Close(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if r := get(t.Context(), "http://"+line.Listen+whoami); r.status != 200 {
			t.Errorf("status %d, %v, with nobody reading the log", r.status, r.err)
		}
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("ended with %v", err)
	}
}
