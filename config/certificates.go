package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
)

var errNoCertificate = errors.New("holds no certificate in PEM")

// Roots are the certificate authorities in CAFile; nil, which stands for those
// of the system, when there is no such file.
func (u Upstream) Roots() *x509.CertPool { return u.roots }

// Roots are the certificate authorities in CAFile; nil, which stands for those
// of the system, when there is no such file.
func (o OAuth) Roots() *x509.CertPool { return o.roots }

// readCertificates reads the files of certificate authorities. Those of sections
// that are not wanted are left alone. That of a Redis without TLS is a mistake in
// itself.
func (c *Config) readCertificates(wanted func(path string) bool, found *mistakes) {
	read := func(path, file string) *x509.CertPool {
		if file == "" || !wanted(path) {
			return nil
		}
		roots, err := readRoots(file)
		if err != nil {
			found.add(path, "%s: %v", file, err)
		}
		return roots
	}
	c.Upstream.roots = read("upstream.ca_file", c.Upstream.CAFile)
	c.OAuth.roots = read("oauth.ca_file", c.OAuth.CAFile)
	if c.Store.Redis.TLS.Enabled {
		read("store.redis.tls.ca_file", c.Store.Redis.TLS.CAFile)
	}
}

// readRoots reads the certificates of a PEM file.
func readRoots(file string) (*x509.CertPool, error) {
	pem, err := readFile(file)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errNoCertificate
	}
	return roots, nil
}

// Client returns what a client needs to reach Redis by TLS, nil when TLS is not
// enabled. Its certificate is read for each handshake, so that one that was
// renewed needs no restart.
func (t TLS) Client() (*tls.Config, error) {
	if !t.Enabled {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.CAFile != "" {
		roots, err := readRoots(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("ca_file: %s: %w", t.CAFile, err)
		}
		c.RootCAs = roots
	}
	if t.CertFile == "" {
		return c, nil
	}
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		return &pair, err
	}
	if _, err := c.GetClientCertificate(nil); err != nil {
		return nil, fmt.Errorf("cert_file, key_file: %w", err)
	}
	return c, nil
}
