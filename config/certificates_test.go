package config

import (
	"crypto/x509"
	"encoding/pem"
	"net/http/httptest"
	"testing"
)

func TestCertificateAuthoritiesAreThoseOfTheFiles(t *testing.T) {
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	want := x509.NewCertPool()
	want.AddCert(server.Certificate())
	block := &pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}
	path := write(t, "ca.pem", string(pem.EncodeToMemory(block)))

	c := mustLoad(t, "upstream: {ca_file: "+path+"}", complete()...)
	if !c.Upstream.Roots().Equal(want) || c.OAuth.Roots() != nil {
		t.Errorf("upstream %v, oauth %v", c.Upstream.Roots(), c.OAuth.Roots())
	}
	c = mustLoad(t, "", complete("PLEO_SIDECAR_OAUTH_CA_FILE="+path)...)
	if !c.OAuth.Roots().Equal(want) || c.Upstream.Roots() != nil {
		t.Errorf("oauth %v, upstream %v", c.OAuth.Roots(), c.Upstream.Roots())
	}
}

func TestFileWithoutCertificatesIsNamedWhereItIsNeeded(t *testing.T) {
	path := write(t, "ca.pem", "no certificate")
	variable := "PLEO_SIDECAR_OAUTH_CA_FILE=" + path
	_, err := Load("", complete(variable))
	want := "oauth.ca_file: " + path + ": holds no certificate in PEM (from PLEO_SIDECAR_OAUTH_CA_FILE)"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if _, err := LoadOnly("", []string{variable}, "admin"); err != nil {
		t.Errorf("read a file that is not needed: %v", err)
	}
}
