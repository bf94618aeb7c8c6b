package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// maxFile bounds what is read from any one file, so that a wrong path such as
// /dev/zero ends in a message. A megabyte is a thousand times what is needed.
const maxFile = 1 << 20

// readFile returns the content of a file.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, cause(err)
	}
	defer func() { _ = f.Close() }()
	content, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case err != nil:
		return nil, cause(err)
	case len(content) > maxFile:
		return nil, fmt.Errorf("is longer than %s", Size(maxFile))
	}
	return content, nil
}

// cause strips what package os puts before an error: whoever reports it names
// the path already.
func cause(err error) error {
	if p, ok := errors.AsType[*os.PathError](err); ok {
		return p.Err
	}
	return err
}

// document is a YAML file on its way to values.
type document struct {
	name  string // of the file, for messages
	found *mistakes
}

// decode reads the text of a file into nested maps with a value for each key
// that is given, of the type of its setting. What is wrong is noted and left
// out. It returns false if the text as a whole cannot be read.
//
// The text is read as nodes and never into Go values, because the YAML
// library's complaint about a wrong type quotes the value.
func (d document) decode(text []byte) (map[string]any, bool) {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var root, second yaml.Node
	switch err := decoder.Decode(&root); {
	case errors.Is(err, io.EOF):
		return nil, true
	case err != nil:
		d.broken(err)
		return nil, false
	}
	switch err := decoder.Decode(&second); {
	case err == nil:
		d.found.add(at(d.name, second.Line), "begins a second YAML document, and only one is read")
		return nil, false
	case !errors.Is(err, io.EOF):
		d.broken(err)
		return nil, false
	}
	switch top := root.Content[0]; {
	case isNull(top):
		return nil, true
	case top.Kind != yaml.MappingNode:
		d.found.add(d.name, "must be a mapping of keys to values")
		return nil, false
	default:
		return d.section("", top), true
	}
}

// section reads the keys of a mapping. The prefix is its path and a dot, or
// nothing at the top.
func (d document) section(prefix string, mapping *yaml.Node) map[string]any {
	values := map[string]any{}
	lines := map[string]int{}
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		name, node := mapping.Content[i], mapping.Content[i+1]
		path, known := d.path(prefix, name)
		switch line, again := lines[name.Value]; {
		case !known:
		case again:
			d.found.add(path, "is given twice, in lines %d and %d of %s", line, name.Line, d.name)
		default:
			lines[name.Value] = name.Line
			if v := d.value(path, node); v != nil {
				values[name.Value] = v
			}
		}
	}
	return values
}

// path returns the path of a name in a section, and whether it is known.
func (d document) path(prefix string, name *yaml.Node) (string, bool) {
	if name.Kind != yaml.ScalarNode || !keyName.MatchString(name.Value) {
		// A secret on the wrong side of a colon must not be repeated.
		d.found.add(at(d.name, name.Line), "is not the name of a key")
		return "", false
	}
	path := prefix + name.Value
	if _, ok := keyAt(path); ok || len(under(path)) > 0 {
		return path, true
	}
	d.found.add(path, "unknown key%s", hint(nearest(path)))
	return "", false
}

// keyName is what a name may look like to be repeated in a message. Keys and
// secrets of any strength are longer or have other letters.
var keyName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,29}$`)

// value reads the value of a key, or the keys of a section. It returns nil when
// nothing is given or what is given is wrong.
func (d document) value(path string, node *yaml.Node) any {
	if isNull(node) {
		return nil
	}
	k, ok := keyAt(path)
	if !ok {
		if node.Kind != yaml.MappingNode {
			d.found.add(path, "is a section: it has keys of its own, such as %s", under(path)[0])
			return nil
		}
		return d.section(path+".", node)
	}
	v, err := d.setting(k, node)
	if err != nil {
		d.found.add(path, "%v", err)
		return nil
	}
	return v
}

// errAlias refuses YAML's references: nothing here is long enough to need
// them, and they are a way to write a file that unfolds without end.
var errAlias = errors.New("must not be a YAML alias")

// setting reads the value of a setting.
func (d document) setting(k key, node *yaml.Node) (any, error) {
	switch {
	case node.Kind == yaml.AliasNode:
		return nil, errAlias
	case !k.list() && node.Kind == yaml.ScalarNode:
		return parse(k.typ, scalar{node.Value, node.ShortTag()})
	case !k.list():
		return nil, errSingle
	case node.Kind != yaml.SequenceNode:
		return nil, errStrings
	}
	values := make([]scalar, len(node.Content))
	for i, entry := range node.Content {
		if entry.Kind != yaml.ScalarNode || entry.ShortTag() != "!!str" {
			return nil, errStrings
		}
		values[i] = scalar{entry.Value, entry.ShortTag()}
	}
	return parseList(k.typ, values)
}

// isNull reports whether a key was given without a value.
func isNull(node *yaml.Node) bool {
	return node.Kind == yaml.ScalarNode && node.ShortTag() == "!!null"
}

var (
	yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

	// Fixed sentences of the library's scanner.
	scannerReason = regexp.MustCompile(`^(could not find expected|did not find( the)? expected|found (a tab|character that|unexpected|unknown escape)|(mapping (keys|values)|block sequence entries|control characters) are not allowed)[a-zA-Z ':,-]*$`)

	// Fixed sentences of its parser. They come with the line before the one in
	// which the mapping or list begins that is broken.
	parserReason = regexp.MustCompile(`^did not find expected (key|node content|<document start>|'-' indicator|',' or '[\]}]')$`)
)

// broken notes that the text is no YAML. Of the library's complaint it keeps the
// line, and those reasons that are fixed sentences: others quote the text.
func (d document) broken(err error) {
	m := yamlLine.FindStringSubmatch(err.Error())
	if m == nil {
		d.found.add(d.name, "is not YAML")
		return
	}
	where, reason := d.name, err.Error()[len(m[0]):]
	line, _ := strconv.Atoi(m[1])
	parser := parserReason.MatchString(reason)
	if parser {
		line++
	}
	if line > 0 {
		where = at(d.name, line)
	}
	switch {
	case parser:
		d.found.add(where, "is not YAML here or below: %s", reason)
	case scannerReason.MatchString(reason):
		d.found.add(where, "is not YAML: %s", reason)
	default:
		d.found.add(where, "is not YAML")
	}
}

// at returns file:line.
func at(file string, line int) string { return fmt.Sprintf("%s:%d", file, line) }

// hint proposes what was meant, if anything looks like it.
func hint(meant string) string {
	if meant == "" {
		return ""
	}
	return ", did you mean " + meant + "?"
}
