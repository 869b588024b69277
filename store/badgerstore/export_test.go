package badgerstore

import "errors"

// WithoutExchange is a system that cannot exchange two directories, until restore is
// called.
func WithoutExchange() (restore func()) {
	exchange = func(_, _ string) error { return errors.ErrUnsupported }
	return func() { exchange = exchangeOfSystem }
}

var exchangeOfSystem = exchange
