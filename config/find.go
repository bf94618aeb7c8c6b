package config

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"strings"
)

const (
	// fileVariable names the configuration file. It is no setting.
	fileVariable = envPrefix + "CONFIG"
	// usualFile is taken from the current folder when no file is named.
	usualFile = "config.yaml"
)

// Find returns the path of the configuration file: the one a flag names, else
// that of PLEO_SIDECAR_CONFIG in environ, else config.yaml in the current folder
// if there is one, else "", which is no file. A file that is named must be there,
// and so must a config.yaml that only cannot be looked at: [Load] says so.
func Find(flag string, environ []string) string {
	path := ""
	for _, entry := range environ {
		if value, ok := strings.CutPrefix(entry, fileVariable+"="); ok {
			path = value // the last one counts, as for every process
		}
	}
	path = cmp.Or(flag, path)
	if path != "" {
		return path
	}
	if _, err := os.Stat(usualFile); errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	return usualFile
}
