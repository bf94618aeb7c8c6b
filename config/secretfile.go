package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// fileSuffix turns the key of a secret into the key of its file.
const fileSuffix = "_file"

var errSecretEmpty = errors.New("is empty")

// readLine returns the only line of a file. Exactly one line break at its end is
// cut off, since most editors and commands write one. An empty file is an error:
// it is what a Secret of Kubernetes looks like that is not there yet.
func readLine(path string) (string, error) {
	content, err := readFile(path)
	if err != nil {
		return "", err
	}
	text := cutLineBreak(string(content))
	if text == "" {
		return "", errSecretEmpty
	}
	return parseText(scalar{text: text})
}

// readLines returns the lines of a file that are not empty.
func readLines(path string) ([]Secret, error) {
	content, err := readFile(path)
	if err != nil {
		return nil, err
	}
	var list []Secret
	for line := range strings.Lines(string(content)) {
		text, err := parseText(scalar{text: cutLineBreak(line)})
		switch {
		case err != nil:
			return nil, err
		case text != "":
			list = append(list, NewSecret(text))
		}
	}
	if len(list) == 0 {
		return nil, errSecretEmpty
	}
	return list, nil
}

// cutLineBreak cuts one line break, of either kind, off the end.
func cutLineBreak(text string) string {
	return strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r")
}

// readSecrets fills in the secrets that are given as files. Those of sections
// that are not wanted are left alone.
func (c *Config) readSecrets(wanted func(path string) bool, found *mistakes) {
	for _, k := range keys {
		if !k.secret() || !wanted(k.path) {
			continue
		}
		file, _ := keyAt(k.path + fileSuffix)
		path := file.field(c).String()
		switch field := k.field(c); {
		case path == "":
		case !field.IsZero():
			found.add(file.path, "must not be given together with %s", k.path)
		default:
			if err := readInto(field, path); err != nil {
				found.add(file.path, "%s%v", shown(path), err)
			}
		}
	}
}

// shown returns path for a message, with a colon, if it can be nothing but a
// path: the secret itself, given in place of its file, must not be repeated. An
// absolute path of two plain names or more passes, and a relative one that begins
// with a folder that is there.
func shown(path string) string {
	first, rest, deep := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if !deep || rest == "" || !plainPath.MatchString(path) {
		return ""
	}
	if info, err := os.Stat(first); !filepath.IsAbs(path) && (err != nil || !info.IsDir()) {
		return ""
	}
	return path + ": "
}

// plainPath is made of names as people give them to files.
var plainPath = regexp.MustCompile(`^/?[A-Za-z0-9._-]{1,64}(/[A-Za-z0-9._-]{1,64})+$`)

// readInto reads a file into the setting of a secret, or of a list of them.
func readInto(field reflect.Value, path string) error {
	if field.Type() == secretsType {
		list, err := readLines(path)
		field.Set(reflect.ValueOf(slices.Clip(list)))
		return err
	}
	text, err := readLine(path)
	field.Set(reflect.ValueOf(NewSecret(text)))
	return err
}

// ReadPassword returns Password, read anew if it is in PasswordFile.
func (r Redis) ReadPassword() (Secret, error) {
	if r.PasswordFile == "" {
		return r.Password, nil
	}
	text, err := readLine(r.PasswordFile)
	if err != nil {
		return Secret{}, fmt.Errorf("%s: %w", r.PasswordFile, err)
	}
	return NewSecret(text), nil
}
