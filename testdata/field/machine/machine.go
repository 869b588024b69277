// Package machine describes what results were measured on, without a word that
// identifies the machine.
package machine

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/perf/benchfmt"

	"example.com/field/tool"
)

// Describe returns the machine and the versions of the tools as lines of a file of
// results. dir is where the databases are; note is added unless it is empty.
func Describe(dir, note string) ([]benchfmt.Config, error) {
	var lines []benchfmt.Config
	add := func(key, value string) {
		if value != "" {
			lines = append(lines, benchfmt.Config{Key: key, Value: []byte(value), File: true})
		}
	}
	cpu, err := field("/proc/cpuinfo", "model name")
	if err != nil {
		return nil, err
	}
	var info syscall.Sysinfo_t
	if err := syscall.Sysinfo(&info); err != nil {
		return nil, err
	}
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return nil, err
	}
	filesystem, err := filesystemOf(dir)
	if err != nil {
		return nil, err
	}
	add("note", note)
	add("left-out", absent())
	add("goos", runtime.GOOS)
	add("goarch", runtime.GOARCH)
	add("cpu", cpu)
	add("cores", fmt.Sprint(runtime.NumCPU()))
	add("memory", fmt.Sprintf("%d GiB", (info.Totalram*uint64(info.Unit)+1<<29)>>30))
	add("kernel", regexp.MustCompile(`^\d+\.\d+`).FindString(string(kernel)))
	add("filesystem", filesystem)
	add("go", strings.TrimPrefix(runtime.Version(), "go"))
	versions, err := moduleVersions()
	if err != nil {
		return nil, err
	}
	add("modules", versions)
	return lines, nil
}

// absent names the tools that the program was built without.
func absent() string {
	var names []string
	for _, t := range tool.Known() {
		if t.Open == nil {
			names = append(names, t.Name)
		}
	}
	if names == nil {
		return ""
	}
	return strings.Join(names, ", ") + ": they take a C compiler and -tags mattn"
}

// field returns a line of a file of lines "name : value".
func field(path, name string) (value string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for s := bufio.NewScanner(f); s.Scan(); {
		if key, value, ok := strings.Cut(s.Text(), ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value), nil
		}
	}
	return "", fmt.Errorf("%s has no %q", path, name)
}

// filesystemOf returns the type of the file system that dir is in.
func filesystemOf(dir string) (kind string, err error) {
	f, err := os.Open("/proc/self/mounts")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	longest := ""
	for s := bufio.NewScanner(f); s.Scan(); {
		mount := strings.Fields(s.Text())
		under := mount[1] == "/" || dir == mount[1] || strings.HasPrefix(dir, mount[1]+"/")
		if under && len(mount[1]) >= len(longest) {
			longest, kind = mount[1], mount[2]
		}
	}
	return kind, nil
}

// moduleVersions returns the versions of the modules that the tools are of.
func moduleVersions() (string, error) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "", errors.New("the program does not know the versions of its modules")
	}
	var versions []string
	for _, m := range info.Deps {
		known := slices.ContainsFunc(tool.All(), func(t tool.Tool) bool { return t.Module == m.Path })
		if known || m.Path == "modernc.org/sqlite" || m.Path == "github.com/mattn/go-sqlite3" {
			version := m.Version
			if m.Replace != nil {
				version = "this tree"
			}
			versions = append(versions, m.Path+" "+version)
		}
	}
	return strings.Join(versions, ", "), nil
}
