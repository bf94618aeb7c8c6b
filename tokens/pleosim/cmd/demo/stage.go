package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"pleo-sidecar/tokens/pleosim"
)

// tokenLife is short enough to watch, and long enough that a token passes the
// five seconds for which the sidecar does not refresh it after a 401.
const tokenLife = 12 * time.Second

// settings is the configuration of the sidecar: its limits fit tokenLife, its
// ports are free ones.
const settings = `listen: 127.0.0.1:0
admin: {listen: 127.0.0.1:0}
upstream: {url: %q}
oauth:
  authorization_url: "%[2]s/oauth/authorize"
  token_url: "%[2]s/oauth/token"
  introspection_url: "%[2]s/oauth/token/introspect"
  client_id: pleosim-client
  client_secret: pleosim-secret
refresh: {lead: 4s, timeout: 3s, max_wait: 8s, keep_alive: 60s, send_window: 1s, network_life: 2s}
store: {kind: file, file: {dir: %[3]q}, encryption: {keys_file: %[4]q}}
`

// stage is what the story is played on: the simulated Pleo and the sidecar, their
// files in a folder of their own.
type stage struct {
	bin, dir      string
	pleo, sidecar *child

	auth, api     string // URLs of the simulated Pleo
	listen, admin string // URLs of the sidecar
	events        chan record
}

// record is one line of the sidecar's log, as far as the story needs it.
type record struct {
	Level     string  `json:"level"`
	Msg       string  `json:"msg"`
	Listen    string  `json:"listen"`
	Admin     string  `json:"admin"`
	Reason    string  `json:"reason"`
	Result    string  `json:"result"`
	TokenFrom string  `json:"token_from"`
	Token     string  `json:"token"`
	Duration  float64 `json:"duration"` // seconds

	line string
}

// set starts both programs, the grant of the simulated Pleo imported.
func (s *stage) set(ctx context.Context) error {
	s.events = make(chan record, 1000)
	if err := s.startPleo(ctx); err != nil {
		return err
	}
	if err := s.configure(); err != nil {
		return err
	}
	grant, err := os.Open(s.file("grant"))
	if err != nil {
		return err
	}
	defer func() { _ = grant.Close() }()
	if _, err := s.command(ctx, grant, "import"); err != nil {
		return err
	}
	return s.startSidecar(ctx)
}

func (s *stage) file(name string) string { return filepath.Join(s.dir, name) }

func (s *stage) startPleo(ctx context.Context) (err error) {
	ready := make(chan string, 1)
	free := "127.0.0.1:0"
	s.pleo, err = start(func(line string) {
		if strings.HasPrefix(line, "pleosim ready ") {
			ready <- line
		}
	}, filepath.Join(s.bin, "pleosim"), "-quiet", "-auth", free, "-api", free, "-files", free,
		"-token-life", tokenLife.String(), "-grant-file", s.file("grant"))
	if err != nil {
		return err
	}
	line, err := await(ctx, s.pleo, ready)
	if err != nil {
		return err
	}
	for field := range strings.FieldsSeq(line) {
		switch name, url, _ := strings.Cut(field, "="); name {
		case "auth":
			s.auth = url
		case "api":
			s.api = url
		}
	}
	return nil
}

// configure writes the configuration and a key, and makes the folder of the store.
func (s *stage) configure() error {
	key, err := s.command(context.Background(), nil, "keygen")
	if err != nil {
		return err
	}
	text := fmt.Sprintf(settings, s.api, s.auth, s.file("tokens"), s.file("key"))
	return errors.Join(
		os.Mkdir(s.file("tokens"), 0o700),
		os.WriteFile(s.file("key"), key, 0o600),
		os.WriteFile(s.file("config.yaml"), []byte(text), 0o600))
}

// command runs a command of the sidecar to its end and returns what it printed.
func (s *stage) command(ctx context.Context, stdin *os.File, name string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c := exec.CommandContext(ctx, filepath.Join(s.bin, "pleo-sidecar"), name)
	if name != "keygen" {
		c.Args = append(c.Args, "--config", s.file("config.yaml"))
	}
	c.Env, c.SysProcAttr = environment(), belong()
	if stdin != nil {
		c.Stdin = stdin
	}
	out, err := c.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return nil, fmt.Errorf("pleo-sidecar %s: %w\n%s", name, err, exit.Stderr)
	}
	return out, err
}

func (s *stage) startSidecar(ctx context.Context) (err error) {
	serving := make(chan record, 1)
	s.sidecar, err = start(func(line string) {
		r := record{line: line}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			r.Level = "ERROR" // a panic, or a log that has another form than we think
		}
		if r.Msg == "serving" {
			serving <- r
			return
		}
		s.tell(r)
	}, filepath.Join(s.bin, "pleo-sidecar"), "serve", "--config", s.file("config.yaml"))
	if err != nil {
		return err
	}
	r, err := await(ctx, s.sidecar, serving)
	if err != nil {
		return err
	}
	s.listen, s.admin = "http://"+r.Listen, "http://"+r.Admin
	return nil
}

// tell hands an event to the story. One that nobody takes any more is dropped, so
// that the sidecar can always end.
func (s *stage) tell(r record) {
	select {
	case s.events <- r:
	default:
	}
}

// expire ends the access token at Pleo ahead of its time, as Pleo may.
func (s *stage) expire() error {
	_, err := s.ask(http.MethodPost, "/sim/expire")
	return err
}

// ledger returns what the simulated Pleo has seen.
func (s *stage) ledger() (pleosim.Ledger, error) {
	var answer struct{ Ledger pleosim.Ledger }
	content, err := s.ask(http.MethodGet, "/sim/ledger")
	if err == nil {
		err = json.Unmarshal(content, &answer)
	}
	return answer.Ledger, err
}

// ask sends a request to the controls of the simulated Pleo.
func (s *stage) ask(method, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, s.auth+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	var content bytes.Buffer
	_, err = content.ReadFrom(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s", method, path, resp.Status)
	}
	return content.Bytes(), err
}

// clear ends both programs: the sidecar first, so that it can finish a refresh.
func (s *stage) clear() error {
	var errs []error
	for _, c := range []*child{s.sidecar, s.pleo} {
		if c != nil {
			errs = append(errs, c.end())
		}
	}
	return errors.Join(errs...)
}
