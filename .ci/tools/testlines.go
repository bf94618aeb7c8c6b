// Testlines reads `go test -json` on standard input and prints what a person
// wants of it: a line a package, the output of what failed, what was skipped
// and why, and a count. It fails when a test failed or none ran.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

// event is one line of `go doc test2json`.
type event struct {
	Action, Package, ImportPath, Test, Output string
}

// report is what was read so far.
type report struct {
	out                     io.Writer
	passed, failed, skipped int
	reasons                 []string
	output                  map[string]map[string]string // by package and test; "" is the package's own
	blamed                  map[string]bool              // packages of which a test failed
}

func main() {
	r := report{out: os.Stdout, output: map[string]map[string]string{}, blamed: map[string]bool{}}
	err := r.read(os.Stdin)
	for _, reason := range r.reasons {
		fmt.Println("skipped " + reason)
	}
	fmt.Printf("tests: %d passed, %d failed, %d skipped\n", r.passed, r.failed, r.skipped)
	if err != nil {
		fmt.Fprintf(os.Stderr, "testlines: %v\n", err)
	}
	if err != nil || r.failed > 0 || r.passed == 0 {
		os.Exit(1)
	}
}

// read takes events until the input ends. A line that is none is printed as it is.
func (r *report) read(in io.Reader) error {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		var e event
		switch {
		case len(line) == 0:
		case json.Unmarshal(line, &e) != nil:
			_, _ = r.out.Write(line)
		default:
			r.take(e)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read events: %w", err)
		}
	}
}

func (r *report) take(e event) {
	switch {
	case e.Action == "build-output":
		r.print(e.Output)
	case e.Action == "output":
		if r.output[e.Package] == nil {
			r.output[e.Package] = map[string]string{}
		}
		r.output[e.Package][e.Test] += e.Output
	case e.Test == "":
		r.endPackage(e)
	default:
		r.endTest(e)
	}
}

func (r *report) endTest(e event) {
	output := r.output[e.Package][e.Test]
	switch e.Action {
	case "pass":
		r.passed++
	case "skip":
		r.skipped++
		r.reasons = append(r.reasons, e.Package+" "+e.Test+": "+reason(output))
	case "fail":
		r.failed++
		r.blamed[e.Package] = true
		r.print(output)
	default:
		return
	}
	delete(r.output[e.Package], e.Test)
}

// endPackage prints the line of a package. Of one that failed it prints the rest
// too: a package can fail while no test does, as at a panic, and the seed of the
// shuffle is needed to see the failure again.
func (r *report) endPackage(e event) {
	switch e.Action {
	case "pass":
		for line := range strings.Lines(r.output[e.Package][""]) {
			if strings.HasPrefix(line, "ok ") {
				r.print(line)
			}
		}
	case "fail":
		if !r.blamed[e.Package] {
			r.failed++
		}
		for test, output := range r.output[e.Package] {
			if test != "" {
				r.print(output)
			}
		}
		r.print(r.output[e.Package][""])
	}
	if e.Action == "pass" || e.Action == "fail" || e.Action == "skip" {
		delete(r.output, e.Package)
	}
}

// reason is what a test said before it was skipped, in one line.
func reason(output string) string {
	var words []string
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "=== ") && !strings.HasPrefix(line, "--- ") {
			words = append(words, line)
		}
	}
	return strings.Join(words, " ")
}

func (r *report) print(text string) { _, _ = io.WriteString(r.out, text) }
