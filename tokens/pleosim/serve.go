package pleosim

import (
	"context"
	"io"
	"net/http"
	"strconv"
)

// call is one request on its way through the stages.
type call struct {
	place Place
	w     http.ResponseWriter
	r     *http.Request
	fault Fault
	body  []byte // of a form; the API reads its own

	token   *token      // the refresh token presented
	entry   int         // its line in token.presented
	carries *token      // the refresh token that the answer brings
	refused bool        // the answer says that token is dead
	late    func(*call) // the work, to be done after the answer
	settled bool
}

const (
	answered = "answered"
	onItsWay = "on its way"

	formLimit = 1 << 20
)

// serve takes one request through its fault: strike before, work, strike after,
// answer. The rotation is decided inside work and nowhere else.
func (s *Sim) serve(faults *Faults, w http.ResponseWriter, r *http.Request, work func(*call) answer) {
	c := &call{place: faults.place, w: w, r: r, fault: faults.take()}
	f := c.fault
	if !f.After && f.Cut && f.Delay == 0 && !f.Hold {
		s.logf("%s: cut before reading", c.place)
		abort()
	}
	if err := c.readForm(); err != nil {
		s.logf("%s: request never completed", c.place)
		abort()
	}
	s.fire(c, Arrived)
	if !f.After && f.Late == 0 {
		s.strike(c)
		if f.Status != 0 {
			_ = s.write(c, s.instead(c))
			return
		}
	}
	defer s.settle(c, "lost: aborted")
	a, how := work(c), answered
	if c.late != nil {
		s.postpone(c)
	}
	if f.After {
		s.strike(c)
		if f.Status != 0 {
			a, how = s.instead(c), "lost: answered "+strconv.Itoa(f.Status)+" instead"
		}
	}
	if f.Garble != "" {
		how = "lost: garbled, " + string(f.Garble)
	}
	s.fire(c, BeforeAnswer)
	if how == answered && r.Context().Err() != nil {
		how = "lost: the client was gone"
	}
	// Settled before the first byte leaves: a fast client may present the next
	// refresh token while this function still returns.
	s.settle(c, how)
	if err := s.write(c, a); err != nil {
		s.unsent(c)
	}
}

// unsent corrects what settle noted, when the answer broke off after all.
func (s *Sim) unsent(c *call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.carries != nil {
		c.carries.answer = "lost: broke off"
	}
	if c.refused {
		c.token.refused = false
	}
}

// readForm reads the content of the small requests; a fault may wait only after
// it, because a buffer between client and Pleo holds the whole request.
func (c *call) readForm() (err error) {
	if c.place == AtToken || c.place == AtIntrospect {
		c.body, err = io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, formLimit))
	}
	return err
}

// strike waits and cuts as the fault says.
func (s *Sim) strike(c *call) {
	s.pause(c.fault)
	if c.fault.Cut {
		s.settle(c, "lost: cut")
		s.logf("%s: connection cut, work done: %t", c.place, c.fault.After)
		abort()
	}
}

// postpone does the work of a late call in its own time. The refresh counts as
// running until then.
func (s *Sim) postpone(c *call) {
	late := *c
	c.settled = true
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.done:
		return
	default:
	}
	s.late.Go(func() {
		if s.wait(context.Background(), late.fault.Late) {
			late.late(&late)
		}
		s.settle(&late, "lost: rotated late")
	})
}

// settle ends a running refresh and notes what became of the answer, once.
func (s *Sim) settle(c *call, how string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.settled {
		return
	}
	c.settled = true
	if c.token != nil {
		c.token.grant.inFlight--
		c.token.refused = c.token.refused || c.refused && how == answered
	}
	if c.carries != nil {
		c.carries.answer = how
		if how != answered {
			s.logf("grant %s: answer with refresh token %d (%s) %s", c.carries.grant.id, c.carries.ordinal, c.carries.fingerprint, how)
		}
	}
}
