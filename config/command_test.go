package config

import (
	"context"
	"errors"
	"flag"
	"os"
	"strings"
	"testing"
)

// testProgram has a default command, and one with everything.
var testProgram = Program{About: "It serves.", Notes: "That is all.", Commands: []Command{
	{Name: "serve", About: "serve calls"},
	{Name: "import", Operand: "[connection]", About: "install", Flags: []Flag{{"replace", "a living grant"}, {"quick", "do so"}}},
}}

func TestCommandLineIsUnderstood(t *testing.T) {
	for line, want := range map[string]struct {
		command, file, operand string
		replace, quick         bool
	}{
		"":                      {command: "serve"},
		"--config a.yaml":       {command: "serve", file: "a.yaml"},
		"serve -config=a.yaml":  {command: "serve", file: "a.yaml"},
		"import":                {command: "import"},
		"import acme":           {command: "import", operand: "acme"},
		"import --replace acme": {command: "import", operand: "acme", replace: true},
		"import acme --replace": {command: "import", operand: "acme", replace: true},
		"import --quick acme --config a -replace": {command: "import", operand: "acme", file: "a", replace: true, quick: true},
		"import --replace=false":                  {command: "import"},
	} {
		in := &Invocation{}
		c, err := testProgram.parse(in, strings.Fields(line))
		if err != nil || c.Name != want.command || in.file != want.file || in.Operand != want.operand ||
			in.Has("replace") != want.replace || in.Has("quick") != want.quick || in.Has("other") {
			t.Errorf("%q: got %s %+v, %v", line, c.Name, in, err)
		}
	}
}

func TestWrongUsageIsNotRepeated(t *testing.T) {
	for line, want := range map[string]string{
		"hunter2":              "unknown command (wrong usage)",
		"serve hunter2":        "serve: too many arguments (wrong usage)",
		"import hunter2 acme":  "import: too many arguments (wrong usage)",
		"--nonsense":           "serve: a flag that it does not know, or a value that it does not take (wrong usage)",
		"serve --replace":      "serve: a flag that it does not know, or a value that it does not take (wrong usage)",
		"serve --config":       "serve: a flag that it does not know, or a value that it does not take (wrong usage)",
		"import --replace=huh": "import: a flag that it does not know, or a value that it does not take (wrong usage)",
	} {
		_, err := testProgram.parse(new(Invocation), strings.Fields(line))
		if !errors.Is(err, ErrUsage) || err.Error() != want {
			t.Errorf("%q: got %v, want %s", line, err, want)
		}
	}
}

func TestHelpOnACommandNamesItsFlags(t *testing.T) {
	var out strings.Builder
	err := testProgram.Run(t.Context(), &Invocation{Stdout: &out}, []string{"import", "acme", "--help"})
	if !errors.Is(err, flag.ErrHelp) {
		t.Errorf("got %v", err)
	}
	for _, want := range []string{"usage: pleo-sidecar import [flags] [connection]\n\ninstall\n", "-config file", "-replace", "a living grant", "-quick"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
}

func TestHelpListsTheCommands(t *testing.T) {
	want := "It serves.\n\nusage: pleo-sidecar [command] [flags]\n\n" +
		"  serve                 serve calls\n  import [connection]   install\n\nThat is all.\n"
	for _, arg := range []string{"help", "-h", "-help", "--help"} {
		var out strings.Builder
		if err := testProgram.Run(t.Context(), &Invocation{Stdout: &out}, []string{arg}); !errors.Is(err, flag.ErrHelp) || out.String() != want {
			t.Errorf("%s: got %v and\n%s", arg, err, out.String())
		}
	}
}

func TestRunRunsTheCommandWithItsInvocation(t *testing.T) {
	wrong := errors.New("wrong")
	p := Program{Commands: []Command{{Name: "import", Operand: "[connection]", Run: func(_ context.Context, in *Invocation) error {
		if in.Operand != "acme" {
			t.Errorf("operand %q", in.Operand)
		}
		return wrong
	}}}}
	if err := p.Run(t.Context(), &Invocation{}, []string{"import", "acme"}); !errors.Is(err, wrong) {
		t.Errorf("got %v", err)
	}
}

func TestInputIsAllThatIsPipedWithinTheLimit(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteString("one\ntwo\nthree"); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	in := &Invocation{Stdin: r}
	if got, err := in.Input("prompt: ", 9); got != "one\ntwo\nt" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := (&Invocation{Stdin: strings.NewReader("")}).Input("prompt: ", 9); got != "" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestInvocationLoadsItsFileAndEnvironment(t *testing.T) {
	in := &Invocation{Environ: complete("PLEO_SIDECAR_CONFIG=absent")}
	if _, err := testProgram.parse(in, []string{"--config", write(t, "config.yaml", "log: {level: loud}")}); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Load(); err == nil || err.Error() != "log.level: must be debug, info, warn or error" {
		t.Errorf("got %v", err)
	}
	if c, err := in.Load("oauth"); err != nil || c.OAuth.ClientID != "client" {
		t.Errorf("got %q, %v", c.OAuth.ClientID, err)
	}
}
