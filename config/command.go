package config

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// ErrUsage is a command line that cannot be understood.
var ErrUsage = errors.New("wrong usage")

// Usage returns an ErrUsage that says what is wrong. It should repeat nothing of
// the command line, which may hold a secret in the wrong place.
func Usage(format string, args ...any) error {
	return fmt.Errorf(format+" (%w)", append(args, ErrUsage)...)
}

// Program is a program with several commands.
type Program struct {
	About    string    // the first line of help
	Commands []Command // all but help; the first is the default
	Notes    string    // the end of help
}

// Command is one command: what help says of it, and what it does.
type Command struct {
	Name    string
	Operand string // what stands for it in help; "" when it takes none
	About   string
	Flags   []Flag // beside --config
	Run     func(context.Context, *Invocation) error
}

// Flag is a flag that is there or not.
type Flag struct{ Name, About string }

// Invocation is one run of a command: what it was given, and where it writes.
type Invocation struct {
	Environ        []string // as os.Environ gives it
	Stdin          io.Reader
	Stdout, Stderr io.Writer

	Operand string // "" when there is none

	file  string           // of --config
	given map[string]*bool // flags of the command
}

// Has reports whether a flag of the command was given.
func (in *Invocation) Has(flag string) bool { return in.given[flag] != nil && *in.given[flag] }

// Load is [Load] with the file and the environment of the invocation; with
// sections it is [LoadOnly].
func (in *Invocation) Load(sections ...string) (Config, error) {
	path := Find(in.file, in.Environ)
	if len(sections) > 0 {
		return LoadOnly(path, in.Environ, sections...)
	}
	return Load(path, in.Environ)
}

// Input returns what standard input holds, or one line after a prompt where a
// person types, but not more than limit bytes.
func (in *Invocation) Input(prompt string, limit int64) (string, error) {
	r := bufio.NewReader(io.LimitReader(in.Stdin, limit))
	if f, ok := in.Stdin.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			_, _ = fmt.Fprint(in.Stderr, prompt)
			line, err := r.ReadString('\n')
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return line, err
		}
	}
	text, err := io.ReadAll(r)
	return string(text), err
}

// Run runs the command that args name, which are without the name of the program.
// Who asks for help gets it on Stdout, and the error is flag.ErrHelp.
func (p Program) Run(ctx context.Context, in *Invocation, args []string) error {
	c, err := p.parse(in, args)
	if err != nil {
		return err
	}
	return c.Run(ctx, in)
}

// parse returns the command that args name, the first if they name none.
func (p Program) parse(in *Invocation, args []string) (Command, error) {
	c := p.Commands[0]
	switch {
	case len(args) == 0:
	case slices.Contains([]string{"help", "-h", "-help", "--help"}, args[0]):
		p.help(in.Stdout)
		return c, flag.ErrHelp
	case !strings.HasPrefix(args[0], "-"):
		i := slices.IndexFunc(p.Commands, func(c Command) bool { return c.Name == args[0] })
		if i < 0 {
			return c, Usage("unknown command")
		}
		c, args = p.Commands[i], args[1:]
	}
	return c, in.parse(c, args)
}

func (p Program) help(w io.Writer) {
	_, _ = fmt.Fprintf(w, "%s\n\nusage: pleo-sidecar [command] [flags]\n\n", p.About)
	for _, c := range p.Commands {
		_, _ = fmt.Fprintf(w, "  %-21s %s\n", c.Name+" "+c.Operand, c.About)
	}
	_, _ = fmt.Fprintf(w, "\n%s\n", p.Notes)
}

// parse reads the arguments of c. Flags may stand behind the operand too.
func (in *Invocation) parse(c Command, args []string) error {
	f := in.flags(c)
	var operands []string
	for err := f.Parse(args); ; err = f.Parse(f.Args()[1:]) {
		switch {
		case errors.Is(err, flag.ErrHelp):
			_, _ = fmt.Fprintf(in.Stdout, "usage: pleo-sidecar %s\n\n%s\n\n", strings.TrimSpace(c.Name+" [flags] "+c.Operand), c.About)
			f.SetOutput(in.Stdout)
			f.PrintDefaults()
			return err
		case err != nil:
			return Usage("%s: a flag that it does not know, or a value that it does not take", c.Name) // package flag would repeat it
		case f.NArg() == 0:
			if len(operands) > 1 || len(operands) == 1 && c.Operand == "" {
				return Usage("%s: too many arguments", c.Name)
			}
			in.Operand = strings.Join(operands, "")
			return nil
		}
		operands = append(operands, f.Arg(0))
	}
}

// flags returns the flags of c, which write into the invocation.
func (in *Invocation) flags(c Command) *flag.FlagSet {
	f := flag.NewFlagSet(c.Name, flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&in.file, "config", "", "configuration `file` (or PLEO_SIDECAR_CONFIG; else config.yaml if there is one)")
	in.given = map[string]*bool{}
	for _, x := range c.Flags {
		in.given[x.Name] = f.Bool(x.Name, false, x.About)
	}
	return f
}
