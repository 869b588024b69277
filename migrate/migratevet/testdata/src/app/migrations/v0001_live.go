package migrations

import (
	_ "app/migrations/tablesv1"
	_ "app/tables"       // want `app/tables goes on changing and history must not: copy the types`
	_ "app/tables/users" // want `app/tables/users goes on changing`
	_ "app/tableside"
	_ "strings"

	_ "github.com/kvmigrate/kvmigrate/migrate"
)
