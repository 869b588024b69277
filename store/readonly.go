package store

import "context"

// ReadOnly returns st for a program that only reads: its Update does not call fn
// and returns an error that matches [ErrReadOnly]. All else is st's; Close closes
// it.
func ReadOnly(st Store) Store { return readOnly{st} }

type readOnly struct{ Store }

// Update implements [Store].
func (readOnly) Update(context.Context, func(Txn) error) error {
	return &Error{Op: "update", Err: ErrReadOnly}
}

// Unwrap returns the store below; see [As].
func (r readOnly) Unwrap() Store { return r.Store }
