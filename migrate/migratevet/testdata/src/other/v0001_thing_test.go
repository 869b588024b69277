package other

import "time"

var _ = time.Now() // a test
