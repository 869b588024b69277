package files

import "time"

var _ = time.Now() // a test
