package scaffold_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/kvmigrate/kvmigrate/migrate/scaffold"
)

func ExampleNew() {
	dir, err := os.MkdirTemp("", "migrations")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()

	for _, name := range []string{"initial_schema", "add_tags", "add_tags"} {
		c, err := scaffold.New(context.Background(), scaffold.Options{Dir: dir, Name: name})
		if errors.Is(err, scaffold.ErrExists) {
			fmt.Println(name, "is taken")
			continue
		}
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(c.Version, filepath.Base(c.File))
	}
	// Output:
	// 1 v0001_initial_schema.go
	// 2 v0002_add_tags.go
	// add_tags is taken
}
