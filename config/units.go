package config

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes.
type Size int64

// Sizes have binary units only: MB means two things, so it is refused.
const (
	Byte Size = 1
	KiB       = 1024 * Byte
	MiB       = 1024 * KiB
	GiB       = 1024 * MiB
)

// String writes s in the largest unit that leaves a whole number.
func (s Size) String() string {
	switch {
	case s == 0:
		return "0B"
	case s%GiB == 0:
		return strconv.FormatInt(int64(s/GiB), 10) + "GiB"
	case s%MiB == 0:
		return strconv.FormatInt(int64(s/MiB), 10) + "MiB"
	case s%KiB == 0:
		return strconv.FormatInt(int64(s/KiB), 10) + "KiB"
	}
	return strconv.FormatInt(int64(s), 10) + "B"
}

// The reasons for which a value is refused. None of them repeats the value.
var (
	errDurationUnit = errors.New("needs a unit, for example 5s")
	errDuration     = errors.New("must be a duration, for example 300ms, 5s, 2m or 24h")
	errSizeUnit     = errors.New("needs a unit, for example 1MiB")
	errSize         = errors.New("must be a whole number with one of the units B, KiB, MiB and GiB")
	errNegative     = errors.New("must not be negative")
	errInt          = errors.New("must be a whole number")
	errBool         = errors.New("must be true or false")
	errControl      = errors.New("must not contain line breaks or other control characters")
)

// parseDuration reads a duration with a unit. A bare number is refused, and 0
// with it, because elsewhere it means seconds, milliseconds or nanoseconds.
func parseDuration(text string) (time.Duration, error) {
	if isNumber(text) {
		return 0, errDurationUnit
	}
	d, err := time.ParseDuration(text)
	switch {
	case err != nil:
		return 0, errDuration // the cause would quote the value
	case d < 0:
		return 0, errNegative
	}
	return d, nil
}

// parseSize reads a size with a unit.
func parseSize(text string) (Size, error) {
	if isNumber(text) {
		return 0, errSizeUnit
	}
	if strings.HasPrefix(text, "-") {
		return 0, errNegative
	}
	number := strings.TrimRight(text, "BKMGi")
	unit, ok := map[string]Size{"B": Byte, "KiB": KiB, "MiB": MiB, "GiB": GiB}[text[len(number):]]
	n, err := strconv.ParseUint(number, 10, 63)
	if !ok || err != nil || n > uint64(math.MaxInt64/unit) {
		return 0, errSize
	}
	return Size(n) * unit, nil
}

// parseInt reads a whole number as people write it: no sign +, no leading zero
// (YAML would read an octal number), no underscores.
func parseInt(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || strconv.Itoa(n) != text {
		return 0, errInt
	}
	return n, nil
}

// parseBool reads true and false, and no other word for them.
func parseBool(text string) (bool, error) {
	if text != "true" && text != "false" {
		return false, errBool
	}
	return text == "true", nil
}

// isNumber reports whether text is a number without a unit.
func isNumber(text string) bool {
	_, err := strconv.ParseFloat(text, 64)
	return err == nil
}
