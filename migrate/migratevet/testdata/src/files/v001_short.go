package files

import "time"

var _ = time.Now() // want `time.Now differs`
