package storetest

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
)

// Canary is in every token of the suite. Its signs look different in each
// encoding, so that no encoding hides it from Reveals.
const Canary = `canary"<&+/%=~`

// Reveals names the form in which data shows the Canary, "" if it does not.
func Reveals(data []byte) string {
	for form, text := range forms() {
		if bytes.Contains(data, []byte(text)) {
			return form
		}
	}
	return ""
}

func forms() map[string]string {
	inJSON, _ := json.Marshal(Canary)
	all := map[string]string{
		"raw":            Canary,
		"in a URL query": url.QueryEscape(Canary),
		"in a URL path":  url.PathEscape(Canary),
		"in JSON":        string(bytes.Trim(inJSON, `"`)),
		"quoted":         Canary[:6] + `\"` + Canary[7:],
		"in hex":         hex.EncodeToString([]byte(Canary)),
		"in upper hex":   fmt.Sprintf("%X", Canary),
		"as numbers":     string(bytes.Trim(fmt.Append(nil, []byte(Canary)), "[]")),
	}
	for offset := range 3 {
		all[fmt.Sprintf("in base64 at %d", offset)] = inside(base64.StdEncoding, offset)
		all[fmt.Sprintf("in base64url at %d", offset)] = inside(base64.URLEncoding, offset)
	}
	return all
}

// inside returns the digits that the Canary has in every text in which it begins
// offset bytes after a multiple of three: those that no neighbour touches.
func inside(enc *base64.Encoding, offset int) string {
	text := enc.EncodeToString(append(make([]byte, offset), Canary...))
	return text[(offset*8+5)/6 : (offset+len(Canary))*8/6]
}
