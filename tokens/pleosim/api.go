package pleosim

import (
	"bytes"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// apiCall is one call with a good token, its content already read.
type apiCall struct {
	*call
	sim    *Sim
	grant  *grant
	id     string // what {id} matched
	length int64
	sum    hash.Hash
}

const (
	bodyLimit = 64 << 20 // a receipt of 30 MB in Base64, with room
	keepLimit = 1 << 20  // how much of a content routes may parse
	itemLimit = 100      // items in a PUT
	jobLife   = time.Hour
	employees = 45
	entries   = 45
)

// routes are shaped like Pleo's API. Order matters: the first match wins.
var routes = []struct {
	method, pattern string
	serve           func(*apiCall) answer
}{
	{"GET", "/v1/introspect", (*apiCall).introspect},
	{"DELETE", "/v1/installations/me", (*apiCall).uninstall},
	{"POST", "/v1/installations/me:activate", (*apiCall).empty},
	{"GET", "/v2/employees", (*apiCall).employees},
	{"GET", "/v1/companies", (*apiCall).companies},
	{"GET", "/v1/companies/{id}", (*apiCall).company},
	{"POST", "/v3/export-jobs", (*apiCall).createJob},
	{"GET", "/v3/export-jobs", (*apiCall).jobs},
	{"GET", "/v3/export-jobs/{id}", (*apiCall).job},
	{"PUT", "/v3/export-jobs/{id}/items", (*apiCall).putItems},
	{"GET", "/v3/export-jobs/{id}/file", (*apiCall).download},
	{"POST", "/v3/export-job-items:search", (*apiCall).search},
	{"POST", "/v1/accounting-entries:search", (*apiCall).search},
	{"POST", "/v2/enrichments", (*apiCall).receipt},
	{"GET", "/v1/stream", (*apiCall).slow},
}

// API is the resource API. Everything below /echo answers with what arrived.
func (s *Sim) API() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.screen(AtResource, r)
		s.serve(s.Resource, w, r, s.resource)
	})
}

// resource checks the token when the head has come and again when the content
// has: a rotation in between kills the call, as Pleo's words have it. Nothing
// is applied for a refused call.
func (s *Sim) resource(c *call) answer {
	g, cause := s.bearer(c.r)
	if cause != "" {
		return s.refuseCall(cause)
	}
	a := &apiCall{call: c, sim: s, grant: g, sum: sha256.New()}
	var kept bytes.Buffer
	content := io.TeeReader(http.MaxBytesReader(c.w, c.r.Body, bodyLimit), a.sum)
	_, err := io.CopyN(&kept, content, keepLimit)
	a.length = int64(kept.Len())
	if err == nil {
		var rest int64
		rest, err = io.Copy(io.Discard, content)
		a.length += rest
	}
	if err != nil && err != io.EOF {
		return apiError(http.StatusRequestEntityTooLarge, "PAYLOAD_TOO_LARGE", "the content is too long or broke off")
	}
	a.body = kept.Bytes()
	if strings.HasPrefix(c.r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		if form, err := url.ParseQuery(string(a.body)); err == nil {
			s.screenValues(AtResource, "content", form)
		}
	}
	if _, cause := s.bearer(c.r); cause != "" {
		return s.refuseCall(cause)
	}
	s.mu.Lock()
	s.tally.APIServed++
	s.mu.Unlock()
	return a.dispatch()
}

func (a *apiCall) dispatch() answer {
	path := a.r.URL.Path
	if path == "/echo" || strings.HasPrefix(path, "/echo/") {
		return a.echo()
	}
	if strings.HasPrefix(path, "/v0/") || strings.HasPrefix(path, "/v1/export-jobs") {
		return apiError(http.StatusBadRequest, "UNSUPPORTED_API_VERSION", "this version is retired")
	}
	for _, route := range routes {
		if id, ok := matches(route.pattern, path); ok && route.method == a.r.Method {
			a.id = id
			return route.serve(a)
		}
	}
	return apiError(http.StatusNotFound, "NOT_FOUND", "no such resource")
}

// matches compares segment by segment and cleans nothing, unlike ServeMux.
func matches(pattern, path string) (id string, ok bool) {
	want, got := strings.Split(pattern, "/"), strings.Split(path, "/")
	if len(want) != len(got) {
		return "", false
	}
	for i := range want {
		switch {
		case want[i] == "{id}" && got[i] != "":
			id = got[i]
		case want[i] != got[i]:
			return "", false
		}
	}
	return id, true
}

// bearer finds whose call it is, or why it is refused.
func (s *Sim) bearer(r *http.Request) (*grant, string) {
	value := r.Header.Get("Authorization")
	if value == "" {
		return nil, causeMissing
	}
	value, ok := strings.CutPrefix(value, "Bearer ")
	if !ok {
		return nil, causeMalformed
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tokens[value]
	switch {
	case t == nil:
		return nil, causeUnknown
	case t.refresh:
		s.violate(WrongHost, "grant %s: refresh token %d (%s) sent to the resource API", t.grant.id, t.ordinal, t.fingerprint)
		return nil, causeUnknown
	}
	return t.grant, t.diedOf(time.Now())
}

// refuseCall is one 401 for every cause, as at Pleo.
func (s *Sim) refuseCall(cause string) answer {
	s.refusedCall(cause)
	s.logf("resource API: 401, token %s", cause)
	a := apiError(http.StatusUnauthorized, "UNAUTHORIZED", "the access token is not good")
	a.header = map[string]string{"WWW-Authenticate": `Bearer error="invalid_token"`}
	return a
}

func (s *Sim) refusedCall(cause string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tally.APIRefused[cause]++
}

func apiError(status int, kind, message string) answer {
	return answer{status: status}.with(map[string]any{"type": kind, "message": message})
}

func ok(members map[string]any) answer { return answer{status: http.StatusOK}.with(members) }

func (a *apiCall) introspect() answer {
	return ok(map[string]any{"data": map[string]any{
		"authMethod": "OAUTH2", "clientId": a.sim.opt.ClientID, "scope": "test:test",
		"applicationName": "pleosim", "subjectURN": a.grant.subject,
	}})
}

func (a *apiCall) uninstall() answer {
	a.sim.mu.Lock()
	defer a.sim.mu.Unlock()
	a.sim.revoke(a.grant, RevokedUninstall, time.Now())
	return a.empty()
}

func (a *apiCall) empty() answer { return answer{status: http.StatusNoContent} }

// companyID is the end of the subject, so that a caller can see whose data it got.
func (a *apiCall) companyID() string {
	return a.grant.subject[strings.LastIndexByte(a.grant.subject, ':')+1:]
}

func (a *apiCall) companies() answer {
	return ok(map[string]any{"data": []any{map[string]any{"id": a.companyID(), "name": "Company of " + a.grant.id}}})
}

func (a *apiCall) company() answer {
	if a.id != a.companyID() {
		return apiError(http.StatusNotFound, "COMPANY_NOT_FOUND", "no such company for this token")
	}
	return ok(map[string]any{"data": map[string]any{"id": a.id, "name": "Company of " + a.grant.id}})
}

// number reads a query field, or gives the default.
func (a *apiCall) number(name string, otherwise int) int {
	if n, err := strconv.Atoi(a.r.URL.Query().Get(name)); err == nil && n >= 0 {
		return n
	}
	return otherwise
}

func (a *apiCall) employees() answer {
	offset, limit := a.number("offset", 0), a.number("limit", 10)
	page := []any{}
	for i := offset; i < min(offset+limit, employees); i++ {
		page = append(page, map[string]any{"id": fmt.Sprintf("%s-%d", a.grant.id, i), "companyId": a.companyID()})
	}
	return ok(map[string]any{"data": page, "pagination": map[string]any{"offset": offset, "limit": limit, "total": employees}})
}

// cursorForm is Pleo's; its "=" and "~" are there to be mangled by careless proxies.
var cursorForm = regexp.MustCompile(`^[A-Z2-7=~]+$`)

func cursor(n int) string { return "~" + base32.StdEncoding.EncodeToString([]byte(strconv.Itoa(n))) }

func (a *apiCall) search() answer {
	q := a.r.URL.Query()
	start := 0
	if after := q.Get("after"); after != "" {
		raw, err := base32.StdEncoding.DecodeString(strings.TrimPrefix(after, "~"))
		n, convErr := strconv.Atoi(string(raw))
		if !cursorForm.MatchString(after) || err != nil || convErr != nil || n < 0 {
			return apiError(http.StatusBadRequest, "INVALID_CURSOR", "the cursor was not made here")
		}
		start = n
	}
	end := min(start+max(1, a.number("limit", 10)), entries)
	page := []any{}
	for i := start; i < end; i++ {
		page = append(page, map[string]any{"id": fmt.Sprintf("%s-%d", a.grant.id, i), "types": q["type"]})
	}
	return ok(map[string]any{"data": page, "pagination": map[string]any{
		"hasNextPage": end < entries, "endCursor": cursor(end), "startCursor": cursor(start),
	}})
}

// activeJob tells whether the grant's export job lives; jobs expire an hour
// after their last update.
func (a *apiCall) activeJob() bool {
	return !a.grant.job.IsZero() && time.Since(a.grant.job) < jobLife
}

func (a *apiCall) createJob() answer {
	a.sim.mu.Lock()
	defer a.sim.mu.Unlock()
	if a.activeJob() {
		return apiError(http.StatusConflict, "EXPORT_JOB_ALREADY_ACTIVE", "one export job at a time")
	}
	a.grant.job = time.Now()
	return answer{status: http.StatusCreated}.with(map[string]any{"data": a.jobData()})
}

func (a *apiCall) jobData() map[string]any {
	return map[string]any{
		"id": "job-" + a.grant.id, "status": "IN_PROGRESS",
		"files": []any{map[string]any{"url": a.sim.presigned("job-" + a.grant.id)}},
	}
}

func (a *apiCall) jobs() answer {
	a.sim.mu.Lock()
	defer a.sim.mu.Unlock()
	list := []any{}
	if a.activeJob() {
		list = append(list, a.jobData())
	}
	return ok(map[string]any{"data": list})
}

func (a *apiCall) job() answer {
	a.sim.mu.Lock()
	defer a.sim.mu.Unlock()
	if !a.activeJob() || a.id != "job-"+a.grant.id {
		return apiError(http.StatusNotFound, "EXPORT_NOT_FOUND", "no such export job")
	}
	return ok(map[string]any{"data": a.jobData()})
}

func (a *apiCall) putItems() answer {
	var content struct {
		Items []json.RawMessage `json:"items"`
	}
	if err := json.Unmarshal(a.body, &content); err != nil {
		return apiError(http.StatusUnprocessableEntity, "INVALID_ITEMS", "the content is no object with items")
	}
	if len(content.Items) > itemLimit {
		return apiError(http.StatusRequestEntityTooLarge, "TOO_MANY_ITEMS", "at most 100 items")
	}
	a.sim.mu.Lock()
	defer a.sim.mu.Unlock()
	if !a.activeJob() || a.id != "job-"+a.grant.id {
		return apiError(http.StatusNotFound, "EXPORT_NOT_FOUND", "no such export job")
	}
	a.grant.job = time.Now()
	return answer{status: http.StatusAccepted}.with(map[string]any{"data": map[string]any{"accepted": len(content.Items)}})
}

// receipt answers what arrived, so that a test can compare tens of megabytes.
func (a *apiCall) receipt() answer {
	return answer{status: http.StatusCreated}.with(map[string]any{"length": a.length, "sha256": hex.EncodeToString(a.sum.Sum(nil))})
}

// echo answers with the request as net/http saw it, which hides the casing of
// field names, and never with its Authorization.
func (a *apiCall) echo() answer {
	fields := maps.Clone(a.r.Header)
	fields.Del("Authorization")
	return ok(map[string]any{
		"method": a.r.Method, "target": a.r.RequestURI, "host": a.r.Host, "proto": a.r.Proto,
		"headers": fields, "trailers": a.r.Trailer, "transfer_encoding": a.r.TransferEncoding,
		"length": a.length, "sha256": hex.EncodeToString(a.sum.Sum(nil)),
	})
}

// slow is an event stream: n events, one each interval. A stream that began
// outlives its token.
func (a *apiCall) slow() answer {
	n := a.number("n", 5)
	interval, err := time.ParseDuration(a.r.URL.Query().Get("interval"))
	if err != nil {
		interval = time.Second
	}
	stream := func(w http.ResponseWriter) {
		for i := range n {
			if i > 0 && !a.sim.wait(a.r.Context(), interval) {
				abort()
			}
			_, _ = fmt.Fprintf(w, "data: {\"n\":%d}\n\n", i+1)
			_ = http.NewResponseController(w).Flush()
		}
	}
	return answer{status: http.StatusOK, stream: stream, header: map[string]string{"Content-Type": "text/event-stream"}}
}

func (a *apiCall) download() answer {
	a.sim.mu.Lock()
	defer a.sim.mu.Unlock()
	return answer{status: http.StatusFound, header: map[string]string{"Location": a.sim.presigned(a.id)}}
}

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
