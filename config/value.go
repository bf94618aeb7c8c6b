package config

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode"
)

// scalar is one value as it was written.
type scalar struct {
	text string
	kind string // the YAML tag, such as !!str or !!int; empty from the environment, where all is text
}

// The reasons for which the shape of a value is refused.
var (
	errString  = errors.New("must be text: put it in quotes")
	errSingle  = errors.New("must be a single value")
	errStrings = errors.New("must be a list of texts, in quotes where they look like numbers")
	errEmpty   = errors.New("must not contain an empty entry")
)

// is reports whether the value was written as one of the YAML kinds. Text from
// the environment can be any.
func (s scalar) is(kinds ...string) bool {
	return s.kind == "" || slices.Contains(kinds, s.kind)
}

// parse turns a value into the type of its setting. There is no weak typing: a
// number is no text, and text is no number.
func parse(t reflect.Type, s scalar) (any, error) {
	switch t {
	case reflect.TypeFor[string]():
		return parseText(s)
	case secretType:
		text, err := parseText(s)
		return NewSecret(text), err
	case reflect.TypeFor[bool]():
		if !s.is("!!bool") {
			return nil, errBool
		}
		return parseBool(s.text)
	case reflect.TypeFor[int]():
		if !s.is("!!int") {
			return nil, errInt
		}
		return parseInt(s.text)
	case reflect.TypeFor[time.Duration]():
		if !s.is("!!str", "!!int", "!!float") {
			return nil, errDuration
		}
		return parseDuration(s.text)
	case reflect.TypeFor[Size]():
		if !s.is("!!str", "!!int", "!!float") {
			return nil, errSize
		}
		return parseSize(s.text)
	}
	panic("config: no setting may have the type " + t.String())
}

// parseList turns the values of a list into the type of its setting.
func parseList(t reflect.Type, values []scalar) (any, error) {
	list := reflect.MakeSlice(t, 0, len(values))
	for _, s := range values {
		if s.text == "" {
			return nil, errEmpty
		}
		v, err := parse(t.Elem(), s)
		if err != nil {
			return nil, err
		}
		list = reflect.Append(list, reflect.ValueOf(v))
	}
	return list.Interface(), nil
}

// parseVariable turns the text of a variable into the type of its setting. The
// entries of a list are separated by commas.
func parseVariable(k key, text string) (any, error) {
	if !k.list() {
		return parse(k.typ, scalar{text: text})
	}
	var values []scalar
	for entry := range strings.SplitSeq(text, ",") {
		values = append(values, scalar{text: strings.TrimSpace(entry)})
	}
	return parseList(k.typ, values)
}

// parseText accepts text of one line. A line break in a name, URL or secret is
// always a slip, and in a header it would be an attack.
func parseText(s scalar) (string, error) {
	if !s.is("!!str") {
		return "", errString
	}
	if strings.ContainsFunc(s.text, unicode.IsControl) {
		return "", errControl
	}
	return s.text, nil
}
