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

// noScheme refuses a name that is meant for another program.
func (cfg Config) noScheme(name string) error {
	scheme, rest, ok := strings.Cut(name, ":")
	switch {
	case ok && elsewhere[scheme] != "":
		return usage(fmt.Errorf("this program has no stores of %s: %s", scheme, elsewhere[scheme]))
	case ok && strings.HasPrefix(rest, "//"):
		return usage(fmt.Errorf("this program has no stores of %s: name %s", scheme, cfg.storeNames()))
	}
	return nil
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
func (a *app) replaces(name string) bool {
	scheme, _, _ := strings.Cut(name, ":")
	return a.inPlace && a.Stores[scheme] == nil
}
