package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Error is everything that is wrong with a configuration. Its mistakes are
// sorted by path, and none of them contains the value of a setting, but for the
// path of a file that cannot be read.
type Error struct {
	Mistakes []Mistake
}

// Error returns the mistakes, one a line.
func (e *Error) Error() string {
	lines := make([]string, len(e.Mistakes))
	for i, m := range e.Mistakes {
		lines[i] = m.String()
	}
	return strings.Join(lines, "\n")
}

// Mistake is one thing that is wrong.
type Mistake struct {
	// Path is the key (store.redis.addrs), the variable where no key belongs
	// to it, or file:line where the file cannot be read at all.
	Path string

	// Text says what is wrong with it.
	Text string

	// Variable is the environment variable that gave the key its value. Empty
	// when it came from the file, from nowhere, or is Path itself.
	Variable string
}

// String returns `path: text`, and the variable if there is one.
func (m Mistake) String() string {
	if m.Variable == "" {
		return m.Path + ": " + m.Text
	}
	return m.Path + ": " + m.Text + " (from " + m.Variable + ")"
}

// mistakes collects what is wrong.
type mistakes []Mistake

// add notes a mistake.
func (m *mistakes) add(path, format string, args ...any) {
	*m = append(*m, Mistake{Path: path, Text: fmt.Sprintf(format, args...)})
}

// at reports whether a mistake was found at any of paths.
func (m *mistakes) at(paths ...string) bool {
	return slices.ContainsFunc(*m, func(x Mistake) bool { return slices.Contains(paths, x.Path) })
}

// err returns the mistakes as an error, sorted, or nil if there are none.
func (m *mistakes) err() error {
	if len(*m) == 0 {
		return nil
	}
	sorted := slices.SortedStableFunc(slices.Values(*m), func(a, b Mistake) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Text, b.Text))
	})
	return &Error{sorted}
}

// only returns the mistakes at wanted paths.
func (m *mistakes) only(wanted func(path string) bool) *mistakes {
	kept := slices.DeleteFunc(slices.Clone(*m), func(x Mistake) bool { return !wanted(x.Path) })
	return (*mistakes)(&kept)
}

// from names the variables that gave the values, in the mistakes from the
// given index on.
func (m *mistakes) from(sources map[string]string, start int) {
	for i := range (*m)[start:] {
		x := &(*m)[start+i]
		x.Variable = sources[x.Path]
	}
}
