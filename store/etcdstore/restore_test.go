package etcdstore_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-multierror"

	"github.com/kvmigrate/kvmigrate/migrate/backup"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
)

// TestRestoreFits: the largest entry that is not refused before a restore begins is one
// that the server takes.
func TestRestoreFits(t *testing.T) {
	limits := openShared(t).Limits()
	for name, tt := range map[string]struct {
		key    int // its length
		excess int
		want   string
	}{
		"long value":   {key: 1},
		"long key":     {key: limits.KeyBytes},
		"longer value": {key: 1, excess: 1, want: "value"},
		"longer entry": {key: limits.KeyBytes, excess: 1, want: "value"},
	} {
		t.Run(name, func(t *testing.T) {
			from, err := badgerstore.Open(t.Context(), t.TempDir(), badgerstore.Options{Configure: badgerstore.Small})
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := from.Close(); err != nil {
					t.Error(err)
				}
			}()
			to := openShared(t)
			e := store.Entry{Key: bytes.Repeat([]byte("k"), tt.key)}
			e.Value = make([]byte, limits.TxnBytes-limits.Cost(e)+tt.excess)
			put(t, from, e)
			taken, err := backup.Take(t.Context(), from, backup.Options{Dir: t.TempDir()}, func(store.Reader) (backup.Header, error) {
				return backup.Header{Schema: "app"}, nil
			})
			if err != nil {
				t.Fatal(err)
			}
			_, err = backup.Restore(t.Context(), taken.Path, to, backup.RestoreOptions{})
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				wantCopy(t, from, to)
				return
			}
			var got []string
			if all, ok := errors.AsType[*multierror.Error](err); ok {
				for _, err := range all.Errors {
					got = append(got, err.(*backup.RefusalError).Reason)
				}
			}
			if diff := cmp.Diff([]string{tt.want}, got); diff != "" || dumpOf(t, to) != "" {
				t.Errorf("Restore = %v (-want +got):\n%s\nthe store holds %d bytes", err, diff, len(dumpOf(t, to)))
			}
		})
	}
}
