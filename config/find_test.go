package config

import (
	"path/filepath"
	"testing"
)

func TestFlagWinsOverVariableWinsOverTheCurrentFolder(t *testing.T) {
	t.Chdir(t.TempDir())
	if got := Find("", []string{"PLEO_SIDECAR_CONFIG="}); got != "" {
		t.Errorf("in an empty folder: %q", got)
	}
	t.Chdir(filepath.Dir(write(t, "config.yaml", "")))
	variable := []string{"PLEO_SIDECAR_CONFIG=former.yaml", "PLEO_SIDECAR_CONFIG=variable.yaml"}
	for _, test := range []struct {
		flag    string
		environ []string
		want    string
	}{
		{"flag.yaml", variable, "flag.yaml"},
		{"", variable, "variable.yaml"},
		{"", []string{"PLEO_SIDECAR_CONFIG="}, "config.yaml"},
		{"", nil, "config.yaml"},
	} {
		if got := Find(test.flag, test.environ); got != test.want {
			t.Errorf("flag %q, environment %q: got %q, want %q", test.flag, test.environ, got, test.want)
		}
	}
}
