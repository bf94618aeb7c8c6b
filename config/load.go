package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/spf13/viper"
)

// Load returns the configuration made of the defaults, the file at path and the
// environment, as os.Environ gives it. An empty path means no file. The error is
// an [*Error] with everything that is wrong.
//
// All is checked as serve needs it. The other commands that talk to Pleo or
// to the store use the same configuration, so they demand the same.
func Load(path string, environ []string) (Config, error) {
	return load(path, environ, nil)
}

// LoadOnly is Load for a command that needs some sections only: mistakes
// elsewhere count for nothing, and files that are named elsewhere are not read. A
// health check uses "admin", so that a file that was changed after the start cannot
// make a healthy process look ill. A section is a key of the top level.
//
// Settings elsewhere are filled in as far as they can be, and are not to be
// relied on.
func LoadOnly(path string, environ []string, sections ...string) (Config, error) {
	for _, s := range sections {
		if _, ok := keyAt(s); !ok && len(under(s)) == 0 {
			return Config{}, fmt.Errorf("load section %q: no such section", s)
		}
	}
	return load(path, environ, sections)
}

// load is Load, for the given sections or, if there are none, for all.
func load(path string, environ []string, sections []string) (Config, error) {
	found := &mistakes{}
	if path == "" {
		return assemble(nil, environ, sections, found)
	}
	text, err := readFile(path)
	if err != nil {
		found.add(path, "%v", err)
		return Config{}, found.err()
	}
	values, ok := document{path, found}.decode(text)
	if !ok {
		return Config{}, found.err()
	}
	return assemble(values, environ, sections, found)
}

// assemble puts the layers on top of each other, reads the files they name,
// presets URLs and checks the whole.
//
// viper does the layering and nothing else: its readers of files and variables
// convert what they should refuse, and drop what they should report.
func assemble(file map[string]any, environ []string, sections []string, found *mistakes) (Config, error) {
	v, base := viper.New(), defaults()
	for _, k := range keys {
		v.SetDefault(k.path, k.field(&base).Interface())
	}
	if err := v.MergeConfigMap(file); err != nil {
		return Config{}, fmt.Errorf("merge the configuration file: %w", err)
	}
	env := readEnvironment(environ, found)
	for path, value := range env.values {
		v.Set(path, value)
	}
	var c Config
	for _, k := range keys {
		k.field(&c).Set(reflect.ValueOf(v.Get(k.path)))
	}

	wanted := wantedIn(sections)
	read := len(*found)
	c.readSecrets(wanted, found)
	c.readCertificates(wanted, found)
	c.presetURLs()
	c.check(found)
	found.from(env.sources, read)
	return c, found.only(wanted).err()
}

// wantedIn returns whether a path lies in one of the sections. Every path does
// if there are none.
func wantedIn(sections []string) func(path string) bool {
	return func(path string) bool {
		top, _, _ := strings.Cut(path, ".")
		return len(sections) == 0 || slices.Contains(sections, top)
	}
}
