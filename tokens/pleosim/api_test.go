package pleosim_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"pleo-sidecar/tokens/pleosim"
)

// withAccess tells a story about calls with a good token.
func withAccess(t *testing.T, story func(w *world, access string)) {
	t.Helper()
	inBubble(t, pleosim.Options{}, func(w *world) {
		access, _ := w.Pair(w.Grant())
		story(w, access)
	})
}

func TestRefusedCallsAreCountedByCause(t *testing.T) {
	inBubble(t, pleosim.Options{AccessLife: time.Minute}, func(w *world) {
		first := w.Grant()
		rotated, _ := w.Pair(first)
		w.refresh(first)
		expired, _ := w.Pair(first)
		time.Sleep(time.Minute)
		other := w.Grant()
		revoked, _ := w.Pair(other)
		w.Revoke(other)
		w.want(w.call("GET", "/v1/companies", "", ""), 401)
		for _, access := range []string{rotated, expired, revoked, "never-issued"} {
			r := w.call("GET", "/v1/companies", access, "")
			w.want(r, 401)
			if r.text("type") != "UNAUTHORIZED" || r.header.Get("WWW-Authenticate") == "" {
				w.Errorf("401 says %s", r.body)
			}
		}
		req := w.request("GET", apiURL+"/v1/companies", "")
		req.Header.Set("Authorization", "bearer "+expired)
		w.want(w.do(req), 401)
		got := fmt.Sprint(w.Ledger().APIRefused)
		if want := "map[expired:1 malformed:1 missing:1 revoked:1 rotated:1 unknown:1]"; got != want {
			w.Errorf("refused %s, want %s", got, want)
		}
		w.quiet()
	})
}

func TestExpireEndsTheAccessTokenAndNotTheGrant(t *testing.T) {
	inBubble(t, pleosim.Options{}, func(w *world) {
		first := w.Grant()
		access, _ := w.Pair(first)
		w.Expire("")
		w.want(w.call("GET", "/v1/companies", access, ""), 401)
		w.want(w.refresh(first), 200)
		w.quiet()
	})
}

func TestCallInFlightDiesWithItsToken(t *testing.T) {
	withAccess(t, func(w *world, access string) {
		r, pipe := io.Pipe()
		req := w.request("POST", apiURL+"/v3/export-jobs", "")
		req.Body, req.ContentLength = r, -1
		req.Header.Set("Authorization", "Bearer "+access)
		answered := make(chan reply)
		go func() { answered <- w.do(req) }()
		_, _ = pipe.Write([]byte("{"))
		_, refresh := w.Pair(access)
		next := w.refresh(refresh)
		_ = pipe.Close()
		w.want(<-answered, 401)
		w.want(w.call("POST", "/v3/export-jobs", next.text("access_token"), ""), 201)
		w.quiet()
	})
}

func TestCredentialsWhereTheyDoNotBelong(t *testing.T) {
	for _, row := range []struct {
		name string
		kind pleosim.Kind
		do   func(w *world, access, refresh string)
	}{
		{"bearer at the file host", pleosim.WrongHost, func(w *world, access, _ string) {
			req := w.request("GET", "http://"+pleosim.FilesAddr+"/exports/x", "")
			req.Header.Set("Authorization", "Bearer "+access)
			w.do(req)
		}},
		{"client secret at the file host", pleosim.WrongHost, func(w *world, _, _ string) {
			req := w.request("GET", "http://"+pleosim.FilesAddr+"/exports/x", "")
			req.SetBasicAuth("pleosim-client", "pleosim-secret")
			w.do(req)
		}},
		{"bearer at the authorization server", pleosim.WrongHost, func(w *world, access, _ string) {
			req := w.request("GET", "http://"+pleosim.AuthAddr+"/v1/companies", "")
			req.Header.Set("Authorization", "Bearer "+access)
			w.do(req)
		}},
		{"client secret at the API", pleosim.WrongHost, func(w *world, _, _ string) {
			req := w.request("GET", apiURL+"/v1/companies", "")
			req.SetBasicAuth("pleosim-client", "pleosim-secret")
			w.want(w.do(req), 401)
		}},
		{"refresh token at the API", pleosim.WrongHost, func(w *world, _, refresh string) {
			w.want(w.call("GET", "/v1/companies", refresh, ""), 401)
		}},
		{"access token in the query", pleosim.Exposed, func(w *world, access, _ string) {
			w.call("GET", "/v1/companies?access_token=x", access, "")
		}},
		{"access token in the query by another name", pleosim.Exposed, func(w *world, access, _ string) {
			w.call("GET", "/v1/companies?x="+url.QueryEscape(access), access, "")
		}},
		{"access token in a form", pleosim.Exposed, func(w *world, access, _ string) {
			req := w.request("POST", apiURL+"/v3/export-jobs", "access_token=x")
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			req.Header.Set("Authorization", "Bearer "+access)
			w.do(req)
		}},
		{"two bearers", pleosim.Malformed, func(w *world, access, _ string) {
			req := w.request("GET", apiURL+"/v1/companies", "")
			req.Header["Authorization"] = []string{"Bearer " + access, "Bearer " + access}
			w.do(req)
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			inBubble(t, pleosim.Options{}, func(w *world) {
				access, refresh := w.Pair(w.Grant())
				row.do(w, access, refresh)
				w.complained(row.kind)
			})
		})
	}
}

func TestUninstallRevokesTheWholeGrant(t *testing.T) {
	withAccess(t, func(w *world, access string) {
		_, refresh := w.Pair(access)
		w.want(w.call("DELETE", "/v1/installations/me", access, ""), 204)
		w.want(w.call("GET", "/v1/companies", access, ""), 401)
		w.want(w.refresh(refresh), 400)
		if got := w.Ledger().Grants[0].Revoked; got != pleosim.RevokedUninstall {
			w.Errorf("revoked = %q", got)
		}
		w.quiet()
	})
}

func TestDownloadRedirectsToAHostThatWantsNoBearer(t *testing.T) {
	withAccess(t, func(w *world, access string) {
		r := w.call("GET", "/v3/export-jobs/job-g1/file", access, "")
		w.want(r, 302)
		file := w.do(w.request("GET", r.header.Get("Location"), ""))
		w.want(file, 200)
		if !strings.Contains(string(file.body), "job-g1") {
			w.Errorf("file says %q", file.body)
		}
		w.want(w.do(w.request("GET", "http://"+pleosim.FilesAddr+"/exports/job-g1", "")), 403)
		w.quiet()
	})
}

func TestOneExportJobAtATime(t *testing.T) {
	withAccess(t, func(w *world, access string) {
		w.want(w.call("GET", "/v3/export-jobs/job-g1", access, ""), 404)
		w.want(w.call("POST", "/v3/export-jobs", access, "{}"), 201)
		w.want(w.call("POST", "/v3/export-jobs", access, "{}"), 409)
		w.want(w.call("GET", "/v3/export-jobs/job-g1", access, ""), 200)
		items := func(n int) string { return `{"items":[` + strings.Repeat("{},", n-1) + `{}]}` }
		w.want(w.call("PUT", "/v3/export-jobs/job-g1/items", access, items(100)), 202)
		w.want(w.call("PUT", "/v3/export-jobs/job-g1/items", access, items(101)), 413)
		w.want(w.call("PUT", "/v3/export-jobs/job-g1/items", access, "no"), 422)
		_, refresh := w.Pair(access)
		time.Sleep(time.Hour)
		access = w.refresh(refresh).text("access_token")
		w.want(w.call("POST", "/v3/export-jobs", access, "{}"), 201)
	})
}

func TestCursorsLeadThroughAllPages(t *testing.T) {
	withAccess(t, func(w *world, access string) {
		form, after, seen := regexp.MustCompile(`^[A-Z2-7=~]+$`), "", 0
		for page := 0; ; page++ {
			r := w.call("POST", "/v3/export-job-items:search?type=a&type=b&limit=20&after="+after, access, "{}")
			w.want(r, 200)
			data, _ := r.json["data"].([]any)
			seen += len(data)
			if !strings.Contains(string(r.body), `"types":["a","b"]`) {
				w.Fatalf("repeated keys were lost: %s", r.body)
			}
			pagination, _ := r.json["pagination"].(map[string]any)
			after, _ = pagination["endCursor"].(string)
			if !form.MatchString(after) {
				w.Fatalf("cursor %q", after)
			}
			if pagination["hasNextPage"] == false {
				break
			}
		}
		if seen != 45 {
			w.Errorf("saw %d items, want 45", seen)
		}
		w.want(w.call("POST", "/v1/accounting-entries:search?after=abc", access, "{}"), 400)
	})
}

func TestEchoTellsEverythingButTheBearer(t *testing.T) {
	withAccess(t, func(w *world, access string) {
		req := w.request("PATCH", apiURL, "hello")
		req.URL.Opaque = "//" + pleosim.APIAddr + "/echo/a%2Fb//c;d?x=1&x=%20+~"
		req.Header.Set("Authorization", "Bearer "+access)
		req.Header.Set("X-Own", "1")
		r := w.do(req)
		w.want(r, 200)
		if got := r.text("target"); !strings.HasSuffix(got, "/echo/a%2Fb//c;d?x=1&x=%20+~") {
			w.Errorf("target = %q", got)
		}
		sum := sha256.Sum256([]byte("hello"))
		if r.text("method") != "PATCH" || r.text("sha256") != hex.EncodeToString(sum[:]) || !bytes.Contains(r.body, []byte("X-Own")) {
			w.Errorf("echo says %s", r.body)
		}
		if bytes.Contains(r.body, []byte(access)) || bytes.Contains(r.body, []byte("Authorization")) {
			w.Error("the bearer was echoed")
		}
	})
}

func TestReceiptsOfTensOfMegabytesArriveWhole(t *testing.T) {
	withAccess(t, func(w *world, access string) {
		body := strings.Repeat("0123456789abcdef", 40<<20/16)
		sum := sha256.Sum256([]byte(body))
		r := w.call("POST", "/v2/enrichments", access, body)
		w.want(r, 201)
		if r.json["length"] != float64(len(body)) || r.text("sha256") != hex.EncodeToString(sum[:]) {
			w.Errorf("got %s", r.body)
		}
	})
}

func TestStreamSendsAChunkEachInterval(t *testing.T) {
	withAccess(t, func(w *world, access string) {
		req := w.request("GET", apiURL+"/v1/stream?n=3&interval=10s", "")
		req.Header.Set("Authorization", "Bearer "+access)
		began := time.Now()
		resp, err := w.http.Do(req)
		if err != nil {
			w.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		chunk := make([]byte, 100)
		for i, want := range []time.Duration{0, 10 * time.Second, 20 * time.Second} {
			n, err := resp.Body.Read(chunk)
			if got := time.Since(began); err != nil || n == 0 || got != want {
				w.Errorf("chunk %d: %q after %s, %v; want it after %s", i+1, chunk[:n], got, err, want)
			}
		}
	})
}

func TestPlainRoutes(t *testing.T) {
	withAccess(t, func(w *world, access string) {
		companies := w.call("GET", "/v1/companies", access, "")
		id := regexp.MustCompile(`"id":"([^"]+)"`).FindSubmatch(companies.body)
		if id == nil {
			w.Fatalf("companies: %s", companies.body)
		}
		for _, row := range []struct {
			method, path string
			status       int
			says         string
		}{
			{"GET", "/v1/introspect", 200, `"authMethod":"OAUTH2"`},
			{"GET", "/v1/companies/" + string(id[1]), 200, "Company of g1"},
			{"GET", "/v1/companies/another", 404, "COMPANY_NOT_FOUND"},
			{"GET", "/v2/employees?offset=40&limit=10", 200, `"total":45`},
			{"POST", "/v1/installations/me:activate", 204, ""},
			{"GET", "/v3/export-jobs", 200, `"data":[]`},
			{"GET", "/v0/export-jobs", 400, "UNSUPPORTED_API_VERSION"},
			{"GET", "/v1/nothing", 404, "NOT_FOUND"},
			{"POST", "/v1/companies", 404, "NOT_FOUND"},
		} {
			r := w.call(row.method, row.path, access, "")
			if r.status != row.status || !strings.Contains(string(r.body), row.says) {
				w.Errorf("%s %s: %d %s, want %d with %s", row.method, row.path, r.status, r.body, row.status, row.says)
			}
		}
	})
}
