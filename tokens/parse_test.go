package tokens

import (
	"errors"
	"strings"
	"testing"
)

func TestRefreshTokenIsOneLineOfVisibleText(t *testing.T) {
	longest := strings.Repeat("x", MaxRefreshToken)
	for text, want := range map[string]string{
		"token": "token", "token\n": "token", "token\r\n": "token", "!a~.b/c+d==": "!a~.b/c+d==", longest + "\n": longest,
	} {
		if got, err := ParseRefreshToken(text); err != nil || got.Reveal() != want {
			t.Errorf("%.20q: got %.20q, %v", text, got.Reveal(), err)
		}
	}
	for text, want := range map[string]error{
		"": errNoToken, "\n": errNoToken, "\r\n": errNoToken, "\ntoken": errNoToken,
		"token\n\n": errNotToken, "token\ntoken": errNotToken, " token": errNotToken,
		"to\tken": errNotToken, "tokén": errNotToken, "token\x00": errNotToken,
		"token\r\r\n": errNotToken, longest + "x": errNotToken,
	} {
		got, err := ParseRefreshToken(text)
		if !errors.Is(err, want) || !got.IsZero() {
			t.Errorf("%.20q: got %v, want %v", text, err, want)
		}
	}
}
