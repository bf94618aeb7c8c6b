package config

import (
	"crypto/x509"
	"encoding/pem"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestCertificateAuthoritiesAreThoseOfTheFile(t *testing.T) {
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	want := x509.NewCertPool()
	want.AddCert(server.Certificate())
	block := &pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}
	path := write(t, "ca.pem", string(pem.EncodeToMemory(block)))
	c := mustLoad(t, "upstream: {ca_file: "+path+"}", complete("PLEO_SIDECAR_OAUTH_CA_FILE="+path)...)
	for _, file := range []string{c.OAuth.CAFile, c.Upstream.CAFile} {
		if got, err := Roots(file); err != nil || !got.Equal(want) {
			t.Errorf("other certificates than those of the file, %v", err)
		}
	}
}

func TestNoFileOfCertificateAuthoritiesIsTheSystems(t *testing.T) {
	if roots, err := Roots(""); roots != nil || err != nil {
		t.Errorf("got %v, %v", roots, err)
	}
}

func TestFileOfCertificateAuthoritiesIsNamedWhenItCannotBeRead(t *testing.T) {
	path := write(t, "ca.pem", "no certificate")
	for file, want := range map[string]string{
		path:     `read certificate authorities "` + path + `": holds no certificate in PEM`,
		"absent": `read certificate authorities "absent": no such file or directory`,
	} {
		if roots, err := Roots(file); roots != nil || err == nil || err.Error() != want {
			t.Errorf("got %v, %v, want %s", roots, err, want)
		}
	}
	_, err := Load("", complete("PLEO_SIDECAR_OAUTH_CA_FILE="+path))
	if err == nil || !strings.HasSuffix(err.Error(), "ca.pem: holds no certificate in PEM (from PLEO_SIDECAR_OAUTH_CA_FILE)") {
		t.Errorf("got %v", err)
	}
	if _, err := LoadOnly("", []string{"PLEO_SIDECAR_OAUTH_CA_FILE=" + path}, "admin"); err != nil {
		t.Errorf("read a file that is not needed: %v", err)
	}
}
