package files

import "time"

var _ = time.Now() // not a migration
