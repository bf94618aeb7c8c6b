package proxy

import (
	"errors"
	"net"
	"syscall"
	"testing"
)

// admin runs an admin listener and returns its port.
func admin(t *testing.T, o AdminOptions) string {
	t.Helper()
	_, port, err := net.SplitHostPort(serve(t, NewServer(NewAdmin(o), nil)))
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func TestAskReadyFindsTheListenerOnThisMachine(t *testing.T) {
	port := admin(t, AdminOptions{})
	for _, host := range []string{"", "127.0.0.1", "0.0.0.0", "localhost"} {
		if err := AskReady(t.Context(), host+":"+port); err != nil {
			t.Errorf("host %q: %v", host, err)
		}
	}
}

func TestAskReadySaysWhyNot(t *testing.T) {
	port := admin(t, AdminOptions{Ready: func() error { return errors.New("the store has not answered yet") }})
	want := "ask http://127.0.0.1:" + port + `/readyz: not ready: "the store has not answered yet"`
	if err := AskReady(t.Context(), ":"+port); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	if err := AskReady(t.Context(), l.Addr().String()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("nobody listens there: %v", err)
	}
}
