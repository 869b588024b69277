// Package plural counts things in words.
package plural

import (
	"fmt"
	"strings"

	"github.com/dustin/go-humanize/english"
)

// Of returns n and the noun, which is in its plural unless n is 1.
func Of(n uint64, noun string) string {
	return fmt.Sprintf("%d %s", n, english.PluralWord(int(min(n, 2)), noun, ""))
}

// endings are those of regular plurals and of their singulars, of which the first counts.
var endings = []struct{ many, one string }{
	{"ies", "y"}, {"sses", "ss"}, {"shes", "sh"}, {"tches", "tch"}, {"xes", "x"}, {"ss", "ss"}, {"s", ""},
}

// Many returns n and what is counted, which is named in a regular plural, as "rows" or
// "records of nodes" are.
func Many(n uint64, nouns string) string {
	noun, rest := nouns, ""
	if i := strings.Index(nouns, " of "); i >= 0 {
		noun, rest = nouns[:i], nouns[i:]
	}
	if n == 1 {
		for _, e := range endings {
			if stem, ok := strings.CutSuffix(noun, e.many); ok {
				noun = stem + e.one
				break
			}
		}
	}
	return fmt.Sprintf("%d %s%s", n, noun, rest)
}
