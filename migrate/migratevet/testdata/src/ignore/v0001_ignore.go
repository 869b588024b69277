package ignore

import "time"

func up() {
	_ = time.Now() //migratevet:ignore nothing of it is written
	_ = time.Now() // want `time.Now differs`

	//migratevet:ignore nothing of it is written
	_ = time.Now()
	_ = time.Now() // want `time.Now differs`

	// want +1 `migratevet:ignore without a reason: say behind it why this is right here`
	//migratevet:ignore
	_ = time.Now() // want `time.Now differs`

	//migratevet:ignored is another word
	_ = time.Now() // want `time.Now differs`
}
