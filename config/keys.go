package config

import (
	"reflect"
	"slices"
	"strings"
)

// envPrefix begins every variable of ours.
const envPrefix = "PLEO_SIDECAR_"

// key is one setting: a field of Config.
type key struct {
	path  string // store.redis.addrs
	index []int  // of the field, for reflect
	typ   reflect.Type
}

// keys lists every setting in the order of the fields. It is the one table from
// which all names follow.
var keys = listKeys(reflect.TypeFor[Config](), "", nil)

// listKeys lists the settings of a struct, the ones of nested structs included.
func listKeys(t reflect.Type, prefix string, index []int) []key {
	var list []key
	for i := range t.NumField() {
		f := t.Field(i)
		if !f.IsExported() {
			continue // what a file held
		}
		k := key{prefix + f.Tag.Get("key"), append(slices.Clone(index), i), f.Type}
		if f.Type.Kind() == reflect.Struct && f.Type != secretType {
			list = append(list, listKeys(f.Type, k.path+".", k.index)...)
			continue
		}
		list = append(list, k)
	}
	return list
}

var (
	secretType  = reflect.TypeFor[Secret]()
	secretsType = reflect.TypeFor[[]Secret]()
)

// field returns the setting in c, to be read or set.
func (k key) field(c *Config) reflect.Value {
	return reflect.ValueOf(c).Elem().FieldByIndex(k.index)
}

// secret reports whether the setting may also be given as a file, by the key
// with the suffix _file.
func (k key) secret() bool { return k.typ == secretType || k.typ == secretsType }

// list reports whether the setting has many values.
func (k key) list() bool { return k.typ.Kind() == reflect.Slice }

// variable returns the name of the setting in the environment.
func (k key) variable() string { return variable(k.path) }

// variable turns store.redis.addrs into PLEO_SIDECAR_STORE_REDIS_ADDRS.
func variable(path string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(path, ".", "_"))
}

// keyAt returns the setting of that path.
func keyAt(path string) (key, bool) {
	i := slices.IndexFunc(keys, func(k key) bool { return k.path == path })
	if i < 0 {
		return key{}, false
	}
	return keys[i], true
}

// under returns the paths of the settings in a section, of all settings for "".
func under(section string) []string {
	var paths []string
	for _, k := range keys {
		if section == "" || strings.HasPrefix(k.path, section+".") {
			paths = append(paths, k.path)
		}
	}
	return paths
}

// nearest returns the known path that was probably meant by an unknown one: one
// that differs by a slip of the fingers, else the only one with the same last
// name. Empty if there is none.
func nearest(path string) string {
	slip, least := "", 3
	var same []string
	for _, known := range append(under(""), sections()...) {
		if d := distance(path, known); d < least && d <= len(lastName(known))/2 {
			slip, least = known, d
		}
		if lastName(known) == lastName(path) {
			same = append(same, known)
		}
	}
	if slip == "" && len(same) == 1 {
		return same[0]
	}
	return slip
}

// sections lists the paths of all sections.
func sections() []string {
	var list []string
	for _, k := range keys {
		for i, r := range k.path {
			if r == '.' && !slices.Contains(list, k.path[:i]) {
				list = append(list, k.path[:i])
			}
		}
	}
	return list
}

// lastName returns what follows the last dot.
func lastName(path string) string { return path[strings.LastIndexByte(path, '.')+1:] }

// distance is the Levenshtein distance: how many letters must be put in, taken
// out or replaced to turn a into b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		corner := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := corner
			if a[i] != b[j] {
				cost = 1 + min(corner, row[j], row[j+1])
			}
			corner, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
