package frozen

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/go-multierror"
)

const header = `# The migrations as they were when their lines were written, for package
# github.com/kvmigrate/kvmigrate/migrate/frozen: version, name, and a hash of the
# source. Commit it, and do not edit it: go generate adds the lines of new
# versions, and newmigration -accept N renews that of version N.
`

var (
	idRule   = regexp.MustCompile(`^v([0-9]{4,})_([a-z][a-z0-9]*(?:_[a-z0-9]+)*)$`)
	lineRule = regexp.MustCompile(`^(v[0-9]{4,}) ([a-z0-9_]+) h1:([A-Za-z0-9+/]{43}=)$`)
)

// A folder is what the folder of the migrations holds.
type folder struct {
	dir        string
	importPath string // of the folder's package, "" if it is in no module
	migrations []migration
	text       string // of SumFile
	lines      []line
	malformed  []error
	sources    map[string]*source // read so far
	helpers    []*helper
}

// A migration is a version that has a file, or a line.
type migration struct {
	version uint32
	name    string
}

func (m migration) id() string { return fmt.Sprintf("v%04d_%s", m.version, m.name) }

// A line is one of SumFile.
type line struct {
	migration
	hash string
	row  int // from 0
}

func (l line) String() string { return fmt.Sprintf("v%04d %s h1:%s", l.version, l.name, l.hash) }

// open reads the folder and its helper files, but no migration.
func open(dir string) (*folder, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("reading the migrations folder: %w", err)
	}
	f := &folder{dir: dir, sources: map[string]*source{}}
	for _, e := range entries {
		id, isGo := strings.CutSuffix(e.Name(), ".go")
		if m, ok := parseID(id); ok && isGo && !e.IsDir() && !strings.HasSuffix(id, "_test") {
			f.migrations = append(f.migrations, m)
		}
	}
	slices.SortStableFunc(f.migrations, func(a, b migration) int { return cmp.Compare(a.version, b.version) })
	text, err := os.ReadFile(f.path(SumFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	f.text = string(text)
	f.parse()
	if f.importPath, err = importPath(dir); err != nil {
		return nil, err
	}
	return f, f.readHelpers()
}

// parseID takes a migration's name apart. Package migrate refuses a migration
// whose file has no such name.
func parseID(id string) (m migration, ok bool) {
	parts := idRule.FindStringSubmatch(id)
	if parts == nil {
		return migration{}, false
	}
	version, err := strconv.ParseUint(parts[1], 10, 32)
	m = migration{uint32(version), parts[2]}
	return m, err == nil && m.id() == id
}

// parse takes the text of SumFile apart. Empty lines and those that start with #
// mean nothing.
func (f *folder) parse() {
	row := -1
	for text := range strings.Lines(f.text) {
		row++
		text = strings.TrimRight(text, "\r\n")
		if text == "" || text[0] == '#' {
			continue
		}
		parts := lineRule.FindStringSubmatch(text)
		if parts != nil {
			_, err := base64.StdEncoding.Strict().DecodeString(parts[3])
			if m, ok := parseID(parts[1] + "_" + parts[2]); ok && err == nil {
				f.lines = append(f.lines, line{m, parts[3], row})
				continue
			}
		}
		f.malformed = append(f.malformed, &VersionError{File: f.path(SumFile), Err: fmt.Errorf(
			"%w %d, %.80q: want a version, a name and a hash; end the merge that left it, or restore the file from version control", ErrMalformed, row+1, text)})
	}
}

// faults returns what is wrong with the folder before any migration is read.
func (f *folder) faults() *multierror.Error {
	var faults *multierror.Error
	for i, m := range f.migrations {
		if i > 0 && f.migrations[i-1].version == m.version {
			faults = multierror.Append(faults, f.fault(m, fmt.Errorf(
				"%w: %s.go has it too; renumber the one that was never released", ErrDuplicate, f.migrations[i-1].id())))
		}
	}
	faults = multierror.Append(faults, f.malformed...)
	first := map[uint32]line{}
	for _, l := range f.lines {
		if other, ok := first[l.version]; ok {
			faults = multierror.Append(faults, &VersionError{Version: l.version, Name: l.name, File: f.path(SumFile), Err: fmt.Errorf(
				"v%d: %w: by lines %d and %d; delete the line of the one that was never released", l.version, ErrDuplicate, other.row+1, l.row+1)})
			continue
		}
		first[l.version] = l
	}
	return faults
}

// importPath returns the import path of the package in dir, "" if no folder above
// has a go.mod: then nothing can import the packages below it.
func importPath(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	for root := abs; ; root = filepath.Dir(root) {
		data, err := os.ReadFile(filepath.Join(root, "go.mod"))
		switch {
		case err == nil:
			module, err := modulePath(string(data))
			if err != nil {
				return "", fmt.Errorf("%s: %w", filepath.Join(root, "go.mod"), err)
			}
			rel, err := filepath.Rel(root, abs)
			if err != nil {
				return "", err
			}
			if rel == "." {
				return module, nil
			}
			return module + "/" + filepath.ToSlash(rel), nil
		case !errors.Is(err, fs.ErrNotExist):
			return "", err
		case root == filepath.Dir(root):
			return "", nil
		}
	}
}

// modulePath returns the module that a go.mod names.
func modulePath(text string) (string, error) {
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "//")
		fields := strings.Fields(line)
		if len(fields) != 2 || fields[0] != "module" {
			continue
		}
		if unquoted, err := strconv.Unquote(fields[1]); err == nil {
			return unquoted, nil
		}
		return fields[1], nil
	}
	return "", errors.New("it has no line that names the module")
}
