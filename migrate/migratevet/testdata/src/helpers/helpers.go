package helpers

import (
	_ "app/tables" // want `app/tables goes on changing`
	"math/rand"
	"os"
	"time"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store"
)

var names = map[string]bool{}

func stamp(tx *migrate.Tx, names map[string]bool) error {
	go func() {}()            // want `belongs to one goroutine`
	_ = time.Now()            // want `time.Now differs`
	_ = rand.Int()            // want `rand.Int depends on chance`
	_ = os.Getpid()           // want `os.Getpid depends on the machine`
	for name := range names { // want `order of a map`
		tx.Delete([]byte(name)) // want `error of Delete`
	}
	//migratevet:ignore it is read and not written
	_ = time.Now()
	return tx.Set(store.Entry{})
}
