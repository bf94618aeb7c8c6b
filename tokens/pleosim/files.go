package pleosim

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// presigned is a URL at the file host that works by itself. The caller holds mu.
func (s *Sim) presigned(id string) string {
	return s.filesURL + "/exports/" + url.PathEscape(id) + "?" + url.Values{
		"X-Amz-Expires": {"86400"}, "X-Amz-Signature": {s.signature(id)},
	}.Encode()
}

func (s *Sim) signature(id string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %s", s.opt.Seed, id))
	return hex.EncodeToString(sum[:])
}

// Files is the host that downloads redirect to. It wants a signed URL, and a
// bearer that reaches it is a violation.
func (s *Sim) Files() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.screen(AtFile, r)
		s.serve(s.File, w, r, func(c *call) answer {
			id, found := strings.CutPrefix(r.URL.Path, "/exports/")
			if !found || r.URL.Query().Get("X-Amz-Signature") != s.signature(id) {
				return apiError(http.StatusForbidden, "ACCESS_DENIED", "the signature does not fit")
			}
			return answer{status: http.StatusOK, body: []byte("export " + id + "\n"), header: map[string]string{"Content-Type": "text/csv"}}
		})
	})
}
