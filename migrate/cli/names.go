package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kvmigrate/kvmigrate/store"
)

// elsewhere says who opens stores of a scheme that this program may not have.
var elsewhere = map[string]string{
	"etcd": "the kvmigrate of store/etcdstore/cmd/kvmigrate has it, and a program of your own with Config.Stores of package store/etcdstore/etcdcli",
}

// openAny opens the store of that name, which may begin with a scheme.
func (cfg Config) openAny(ctx context.Context, name string, o OpenOptions) (store.Store, error) {
	if scheme, rest, ok := strings.Cut(name, ":"); ok && cfg.Stores[scheme] != nil {
		return cfg.Stores[scheme](ctx, rest, o)
	}
	return cfg.Open(ctx, name, o)
}

// checkDirectory refuses a path that reads like the name of a store of another kind: one
// that begins with a scheme and a colon. A single letter is a drive of Windows.
func (cfg Config) checkDirectory(path string) error {
	scheme, _, ok := strings.Cut(path, ":")
	if !ok || len(scheme) < 2 || strings.ContainsAny(scheme, `/\`) {
		return nil
	}
	known := strings.ToLower(scheme)
	if who := elsewhere[known]; who != "" && cfg.Stores[known] == nil {
		return usage(fmt.Errorf("this program has no stores of %s: %s", known, who))
	}
	return usage(fmt.Errorf("no store is called %s:…: it is %s; a directory with a colon in its name is ./%[1]s:…", scheme, cfg.storeNames()))
}

// storeNames says what names of stores the program takes.
func (cfg Config) storeNames() string {
	names := []string{"the path of a Badger directory"}
	for _, scheme := range slices.Sorted(maps.Keys(cfg.Stores)) {
		names = append(names, scheme+":…")
	}
	return strings.Join(names, " or ")
}

// replaces reports whether the store of that name is a directory of ours, which a
// restore may replace.
func (a *app) replaces(name string) (bool, error) {
	scheme, _, _ := strings.Cut(name, ":")
	if !a.inPlace || a.Stores[scheme] != nil {
		return false, nil
	}
	return true, a.checkDirectory(name)
}
