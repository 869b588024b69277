// Command migratevet holds migrations, under go vet, to what package migratevet
// checks:
//
//	go vet -vettool=$(which migratevet) -live example.com/app/tables/... ./migrations
//
// -live names the packages that a migration must not import, separated by
// commas; path/... is path and all below it.
package main

import (
	"flag"

	"golang.org/x/tools/go/analysis/unitchecker"

	"github.com/kvmigrate/kvmigrate/migrate/migratevet"
)

func main() {
	// There is one analyzer: its flags need not have its name in front, as
	// unitchecker would have it.
	migratevet.Analyzer.Flags.VisitAll(func(f *flag.Flag) { flag.Var(f.Value, f.Name, f.Usage) })
	unitchecker.Main(migratevet.Analyzer)
}
