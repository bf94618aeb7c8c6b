package config

import (
	"crypto/x509"
	"errors"
	"fmt"
)

var errNoCertificate = errors.New("holds no certificate in PEM")

// Roots returns the certificate authorities in the PEM file of a ca_file; nil,
// which stands for those of the system, for an empty path. [Load] has tried it.
func Roots(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	roots, err := readRoots(path)
	if err != nil {
		return nil, fmt.Errorf("read certificate authorities %q: %w", path, err)
	}
	return roots, nil
}

// readRoots is Roots, with errors for who names the path.
func readRoots(path string) (*x509.CertPool, error) {
	pem, err := readFile(path)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errNoCertificate
	}
	return roots, nil
}

// tryRoots notes the files of certificate authorities that are of no use. Those
// of sections that are not wanted are left alone, and so is that of a Redis
// without TLS, which is a mistake of its own.
func (c *Config) tryRoots(wanted func(path string) bool, found *mistakes) {
	files := map[string]string{"upstream.ca_file": c.Upstream.CAFile, "oauth.ca_file": c.OAuth.CAFile}
	if c.Store.Redis.TLS.Enabled {
		files["store.redis.tls.ca_file"] = c.Store.Redis.TLS.CAFile
	}
	for path, file := range files {
		if file == "" || !wanted(path) {
			continue
		}
		if _, err := readRoots(file); err != nil {
			found.add(path, "%s: %v", file, err)
		}
	}
}
