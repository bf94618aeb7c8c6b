package pleosim

import (
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const (
	itemLimit = 100 // items in a PUT
	jobLife   = time.Hour
	employees = 45 // a few pages
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

func (a *apiCall) introspect() answer {
	return success(map[string]any{"data": map[string]any{
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
	return success(map[string]any{"data": []any{map[string]any{"id": a.companyID(), "name": "Company of " + a.grant.id}}})
}

func (a *apiCall) company() answer {
	if a.id != a.companyID() {
		return apiError(http.StatusNotFound, "COMPANY_NOT_FOUND", "no such company for this token")
	}
	return success(map[string]any{"data": map[string]any{"id": a.id, "name": "Company of " + a.grant.id}})
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
	return success(map[string]any{"data": page, "pagination": map[string]any{"offset": offset, "limit": limit, "total": employees}})
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
	return success(map[string]any{"data": page, "pagination": map[string]any{
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
	return success(map[string]any{"data": list})
}

func (a *apiCall) job() answer {
	a.sim.mu.Lock()
	defer a.sim.mu.Unlock()
	if !a.activeJob() || a.id != "job-"+a.grant.id {
		return apiError(http.StatusNotFound, "EXPORT_NOT_FOUND", "no such export job")
	}
	return success(map[string]any{"data": a.jobData()})
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
	return success(map[string]any{
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
