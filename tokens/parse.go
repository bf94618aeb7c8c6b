package tokens

import (
	"errors"
	"strings"
)

// MaxRefreshToken is the length in bytes of the longest refresh token that is
// taken from a person. Those seen have up to some thousand.
const MaxRefreshToken = 64 << 10

var (
	errNoToken  = errors.New("is empty: it takes the refresh token")
	errNotToken = errors.New("must be one refresh token on one line")
)

// ParseRefreshToken returns the refresh token that a person hands over: visible
// characters of ASCII on one line, whose line break is cut off. Its error
// completes a sentence that begins with the place of the text, and repeats nothing
// of it.
func ParseRefreshToken(text string) (Secret, error) {
	line, rest, _ := strings.Cut(text, "\n")
	line = strings.TrimSuffix(line, "\r")
	switch {
	case line == "":
		return Secret{}, errNoToken
	case rest != "", len(line) > MaxRefreshToken, strings.ContainsFunc(line, invisible):
		return Secret{}, errNotToken
	}
	return NewSecret(line), nil
}

func invisible(r rune) bool { return r <= ' ' || r > '~' }
