package config

import (
	"regexp"
	"strings"
)

// environment is what the variables of a process say.
type environment struct {
	values  map[string]any    // path to value
	sources map[string]string // path to variable
}

// readEnvironment reads the variables of ours from environ, as os.Environ gives
// it. Empty ones count as not given. Unknown ones are mistakes, because a
// misspelt limit or secret would otherwise go unnoticed.
func readEnvironment(environ []string, found *mistakes) environment {
	e := environment{map[string]any{}, map[string]string{}}
	paths := map[string]string{}
	for _, path := range append(under(""), sections()...) {
		paths[variable(path)] = path
	}
	for _, entry := range environ {
		name, text, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, envPrefix) || name == fileVariable {
			continue
		}
		k, ok := keyAt(paths[name])
		switch {
		case ok && text != "":
			e.read(k, text, found)
		case ok || fromKubernetes(name, text):
		case paths[name] != "":
			found.add(name, "names a section: set one of its keys, such as %s", variable(under(paths[name])[0]))
		default:
			found.add(name, "unknown variable%s", hint(nearestVariable(name)))
		}
	}
	return e
}

// read notes the value of a variable.
func (e environment) read(k key, text string, found *mistakes) {
	e.sources[k.path] = k.variable()
	v, err := parseVariable(k, text)
	if err != nil {
		*found = append(*found, Mistake{k.path, err.Error(), k.variable()})
		return
	}
	e.values[k.path] = v
}

// nearestVariable returns the variable that was probably meant.
func nearestVariable(name string) string {
	best, least := "", 3
	for _, k := range keys {
		if d := distance(name, k.variable()); d < least {
			best, least = k.variable(), d
		}
	}
	return best
}

// Kubernetes gives every container the addresses of the Services of its
// namespace. For a Service called pleo-sidecar, or pleo-sidecar-<anything>, the
// names begin like ours. Only the exact shapes of names and values are excused,
// so that PLEO_SIDECAR_PORT=9090, a plausible guess, is still refused.
var kubernetesShapes = []struct{ name, value *regexp.Regexp }{
	{regexp.MustCompile(`^PLEO_SIDECAR_([A-Z0-9_]+_)?SERVICE_HOST$`), kubernetesAddress},
	{regexp.MustCompile(`^PLEO_SIDECAR_([A-Z0-9_]+_)?SERVICE_PORT(_[A-Z0-9_]+)?$`), kubernetesNumber},
	{regexp.MustCompile(`^PLEO_SIDECAR_([A-Z0-9_]+_)?PORT(_\d+_(TCP|UDP|SCTP))?$`), kubernetesURL},
	{regexp.MustCompile(`^PLEO_SIDECAR_([A-Z0-9_]+_)?PORT_\d+_(TCP|UDP|SCTP)_PROTO$`), regexp.MustCompile(`^(tcp|udp|sctp)$`)},
	{regexp.MustCompile(`^PLEO_SIDECAR_([A-Z0-9_]+_)?PORT_\d+_(TCP|UDP|SCTP)_PORT$`), kubernetesNumber},
	{regexp.MustCompile(`^PLEO_SIDECAR_([A-Z0-9_]+_)?PORT_\d+_(TCP|UDP|SCTP)_ADDR$`), kubernetesAddress},
}

var (
	kubernetesAddress = regexp.MustCompile(`^[0-9A-Fa-f.:]+$`)
	kubernetesNumber  = regexp.MustCompile(`^\d+$`)
	kubernetesURL     = regexp.MustCompile(`^(tcp|udp|sctp)://[0-9A-Fa-f.:\[\]]+:\d+$`)
)

// fromKubernetes reports whether a variable is one that Kubernetes sets for a
// Service of our name.
func fromKubernetes(name, value string) bool {
	for _, shape := range kubernetesShapes {
		if shape.name.MatchString(name) && shape.value.MatchString(value) {
			return true
		}
	}
	return false
}
