// Package faults makes one error of several.
package faults

import (
	"strings"

	"github.com/hashicorp/go-multierror"
)

// Join returns faults as an error, nil if there are none. Its text is one line, without
// a count and a list: it becomes part of other errors, of logs and of rows. It leaves faults
// as they are, so that several can join them.
func Join(faults *multierror.Error) error {
	if faults == nil {
		return nil
	}
	joined := &multierror.Error{Errors: faults.Errors, ErrorFormat: func(errs []error) string {
		texts := make([]string, len(errs))
		for i, err := range errs {
			texts[i] = err.Error()
		}
		return strings.Join(texts, "; ")
	}}
	return joined.ErrorOrNil()
}
