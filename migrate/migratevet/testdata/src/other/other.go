package other

import "time"

var _ = time.Now() // no migrations here
