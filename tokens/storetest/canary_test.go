package storetest

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"testing"
)

func TestRevealsFindsTheCanaryInEachForm(t *testing.T) {
	for before := range 3 {
		token := "abc"[:before] + Canary + "xyz"
		inJSON, err := json.Marshal(token)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{
			token, fmt.Sprintf("%q", token), string(inJSON), fmt.Sprint([]byte(token)),
			url.QueryEscape(token), url.PathEscape(token),
			hex.EncodeToString([]byte(token)), fmt.Sprintf("%X", token),
			base64.StdEncoding.EncodeToString([]byte(token)), base64.RawURLEncoding.EncodeToString([]byte(token)),
		} {
			if Reveals([]byte("... "+text+" ...")) == "" {
				t.Errorf("Reveals does not see the canary in %q", text)
			}
		}
	}
	if form := Reveals([]byte("tokens: connection not found")); form != "" {
		t.Errorf("Reveals sees a canary %s where there is none", form)
	}
}
