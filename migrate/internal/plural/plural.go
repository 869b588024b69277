// Package plural counts things in words.
package plural

import (
	"fmt"

	"github.com/dustin/go-humanize/english"
)

// Of returns n and the noun, which is in its plural unless n is 1.
func Of(n uint64, noun string) string {
	return fmt.Sprintf("%d %s", n, english.PluralWord(int(min(n, 2)), noun, ""))
}
