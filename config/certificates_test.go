package config

import (
	"crypto/x509"
	"encoding/pem"
	"net/http/httptest"
	"strings"
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

func TestTLSForRedisTakesItsFilesOrNamesThem(t *testing.T) {
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	key, err := x509.MarshalPKCS8PrivateKey(server.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	ca := write(t, "ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	own := write(t, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})))

	if c, err := (TLS{}).Client(); c != nil || err != nil {
		t.Errorf("not enabled: %v, %v", c, err)
	}
	c, err := TLS{Enabled: true, CAFile: ca, CertFile: ca, KeyFile: own}.Client()
	if err != nil || c.RootCAs == nil || c.InsecureSkipVerify {
		t.Fatalf("got %v, %v", c, err)
	}
	if pair, err := c.GetClientCertificate(nil); err != nil || !pair.Leaf.Equal(server.Certificate()) {
		t.Errorf("our certificate is not that of the file: %v", err)
	}
	for want, wrong := range map[string]TLS{
		"ca_file: " + own:      {Enabled: true, CAFile: own},
		"cert_file, key_file:": {Enabled: true, CertFile: own, KeyFile: own},
	} {
		if _, err := wrong.Client(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
