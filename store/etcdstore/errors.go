package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kvmigrate/kvmigrate/store"
)

// sentinels maps etcd's errors to the contract's. In each of them etcd has done
// nothing, but for a commit with ErrNoSpace: see txn.isLatest.
var sentinels = []struct {
	etcd, sentinel error
	hint           string
}{
	{rpctypes.ErrCompacted, store.ErrSnapshotGone, "etcd has compacted the revision that the transaction reads"},
	{rpctypes.ErrFutureRev, store.ErrSnapshotGone, "etcd no longer has the revision that the transaction reads, as after a restore from a backup"},
	{rpctypes.ErrNoSpace, store.ErrNoSpace, "etcd's quota of it is used up. Compact and defragment etcd (etcdctl compact, etcdctl defrag), or raise --quota-backend-bytes; then clear the alarm (etcdctl alarm disarm) and try again"},
	{rpctypes.ErrTooManyOps, store.ErrTxnTooBig, "the etcd server takes fewer operations in a transaction: set the store's TxnOps to its --max-txn-ops"},
	{rpctypes.ErrRequestTooLarge, store.ErrTxnTooBig, "the etcd server takes smaller requests: set the store's RequestBytes to its --max-request-bytes"},
	{rpctypes.ErrTooManyRequests, store.ErrBusy, "etcd has more requests than it can serve"},
	{rpctypes.ErrCorrupt, store.ErrCorrupt, "etcd found that its members differ (etcdctl alarm list)"},
}

// errNoAnswer is a request that took longer than the store's timeout.
var errNoAnswer = errors.New("etcd did not answer in time; see whether a majority of its members runs and can be reached")

// A cause is the log of a client, of which it keeps the last error: the client
// returns no more than that time was up, when it logged why.
type cause struct {
	zapcore.Core
	last atomic.Pointer[error]
}

func newCause() *cause { return &cause{Core: zapcore.NewNopCore()} }

// Enabled implements zapcore.Core.
func (*cause) Enabled(level zapcore.Level) bool { return level >= zapcore.WarnLevel }

// Check implements zapcore.Core.
func (c *cause) Check(e zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return checked.AddCore(e, c)
	}
	return checked
}

// Write implements zapcore.Core.
func (c *cause) Write(_ zapcore.Entry, fields []zapcore.Field) error {
	for _, f := range fields {
		if err, ok := f.Interface.(error); ok && f.Type == zapcore.ErrorType {
			c.last.Store(&err)
		}
	}
	return nil
}

// explain adds to err why the client got no answer, if it knows.
func (c *cause) explain(err error) error {
	if c == nil || c.last.Load() == nil {
		return err
	}
	return fmt.Errorf("%w: %s", err, (*c.last.Load()).Error())
}

// clientClosed reports that the client was closed, also behind the store's back: its
// requests would be tried again for seconds.
func (s *Store) clientClosed() error {
	if s.client.Ctx().Err() != nil {
		return fmt.Errorf("%w: the etcd client is", store.ErrClosed)
	}
	return nil
}

// translate turns an error of the client into one of the contract, if it has a name
// for it.
func (s *Store) translate(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	if closed := s.clientClosed(); closed != nil {
		return closed
	}
	for _, known := range sentinels {
		if errors.Is(err, known.etcd) {
			return fmt.Errorf("%w: %s", known.sentinel, known.hint)
		}
	}
	switch code := codeOf(err); {
	case errors.Is(err, context.Canceled), code == codes.Canceled, code == codes.DeadlineExceeded:
		return s.cause.explain(errNoAnswer) // ctx has not ended, so it is the timeout
	case code == codes.ResourceExhausted:
		return fmt.Errorf("%w: %w", store.ErrTxnTooBig, err) // by gRPC's own limits
	}
	return err
}

// refused reports whether err, of a commit, says for certain that nothing was or
// will be written.
func refused(err error) bool {
	for _, known := range sentinels {
		if errors.Is(err, known.etcd) {
			return true
		}
	}
	switch codeOf(err) {
	case codes.InvalidArgument, codes.PermissionDenied, codes.Unauthenticated, codes.FailedPrecondition,
		codes.ResourceExhausted, codes.Unimplemented:
		return true
	}
	return false
}

// codeOf returns the code of an error that came from a server or from gRPC.
func codeOf(err error) codes.Code {
	if etcd, ok := errors.AsType[rpctypes.EtcdError](err); ok {
		return etcd.Code()
	}
	return status.Code(err)
}

// wrap turns an error into one that says what op failed on which key, which it
// copies.
func wrap(op string, key []byte, err error) error {
	if err == nil {
		return nil
	}
	if key != nil {
		key = append([]byte{}, key...)
	}
	return &store.Error{Op: op, Key: key, Err: err}
}

func wrapOpen(endpoints []string, err error) error {
	if errors.Is(err, errUnreachable) { // it names them
		return &store.Error{Op: "open etcd store", Err: err}
	}
	return &store.Error{Op: "open etcd store at " + strings.Join(endpoints, ","), Err: err}
}
