package tablescli

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/kvmigrate/kvmigrate/migrate/cli"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/tuple"
	"github.com/kvmigrate/kvmigrate/store/value"
	"github.com/kvmigrate/kvmigrate/systables"
	"github.com/kvmigrate/kvmigrate/systables/internal/merge"
)

// A query selects rows of a table.
type query struct {
	prefix       string
	by           string    // the column of times, "" for the first
	since, until time.Time // zero if there is no bound
	limit        int       // 0 if there is none
	reverse      bool
}

// check reports what makes no sense for any table.
func (q query) check() error {
	switch {
	case q.limit < 0:
		return cli.Usage(errors.New("--limit is less than 0"))
	case !q.since.IsZero() && !q.until.IsZero() && !q.since.Before(q.until):
		return cli.Usage(errors.New("--since is not before --until"))
	}
	return nil
}

// A source is where the rows of a query are found.
type source struct {
	rows    store.Partition
	column  string // of the time; "" if the query goes by keys
	indexed bool
	index   store.Partition // if indexed
	at      int             // the place of the time in the index: 0, or 1 after a text
}

// source returns that of q in a table.
func (q query) source(d systables.Definition) (src source, err error) {
	if src.rows, err = partition(d, ""); err != nil {
		return src, err
	}
	if q.by == "" && q.since.IsZero() && q.until.IsZero() {
		return src, nil
	}
	if src.column, err = q.column(d); err != nil {
		return src, err
	}
	for src.at = range 2 {
		i := slices.IndexFunc(d.Indexes, func(ix systables.IndexDefinition) bool { return findsTime(d, ix, src.column, src.at) })
		if i >= 0 {
			src.indexed = true
			src.index, err = partition(d, d.Indexes[i].Name)
			break
		}
	}
	return src, err
}

// findsTime reports whether an index has all rows of which column is not null, by that
// column at that place.
func findsTime(d systables.Definition, ix systables.IndexDefinition, column string, at int) bool {
	if len(ix.Columns) <= at || ix.Columns[at] != column {
		return false
	}
	return at == 0 || slices.ContainsFunc(d.Columns, func(c systables.Column) bool {
		return c.Name == ix.Columns[0] && c.Type == "Text" && !c.Nullable
	})
}

// column returns the column of times that q goes by.
func (q query) column(d systables.Definition) (string, error) {
	var times []string
	for _, c := range d.Columns {
		if c.Type == "Timestamp" {
			times = append(times, c.Name)
		}
	}
	switch {
	case len(times) == 0:
		return "", cli.Usage(fmt.Errorf("--by, --since, --until: table %s has no column of times", printable(d.Name)))
	case q.by == "":
		return times[0], nil
	case !slices.Contains(times, q.by):
		return "", cli.Usage(fmt.Errorf("--by %q: the columns of times of table %s are %s", q.by, printable(d.Name), printable(strings.Join(times, ", "))))
	}
	return q.by, nil
}

// find yields the rows that q selects, as entries with their primary key.
func (q query) find(s store.Reader, src source) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		all := q.byKey(s, src)
		if src.indexed {
			all = q.byTime(s, src)
		}
		n := 0
		for e, err := range all {
			if !yield(e, err) || err != nil {
				return
			}
			if n++; n == q.limit {
				return
			}
		}
	}
}

// byKey yields the rows in the order of their keys.
func (q query) byKey(s store.Reader, src source) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		for e, err := range s.Scan(store.Scan{Prefix: src.rows.Key([]byte(q.prefix)), Reverse: q.reverse}) {
			if err == nil {
				if !q.keeps(src, e.Value) {
					continue
				}
				e.Key, _ = src.rows.Cut(e.Key)
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// keeps reports whether a row is of the times of q. A malformed one may be, and is
// shown as that.
func (q query) keeps(src source, row []byte) bool {
	if src.column == "" {
		return true
	}
	columns, err := value.UnmarshalMap(row)
	if err != nil {
		return true
	}
	var ms int64
	data, ok := columns[src.column]
	return ok && value.Unmarshal(data, &ms) == nil && !q.before(ms) && !q.after(ms)
}

func (q query) before(ms int64) bool { return !q.since.IsZero() && time.UnixMilli(ms).Before(q.since) }
func (q query) after(ms int64) bool  { return !q.until.IsZero() && !time.UnixMilli(ms).Before(q.until) }

// byTime yields the rows in the order of the index. Where another column comes before
// the time, as the status of a job does, the parts with one value of it are merged.
func (q query) byTime(s store.Reader, src source) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		prefixes, err := src.parts(s)
		if err != nil {
			yield(store.Entry{}, err)
			return
		}
		parts := make([]iter.Seq2[dated, error], len(prefixes))
		for i, prefix := range prefixes {
			parts[i] = q.through(s, src, prefix)
		}
		for e, err := range merge.Sorted(q.order, parts...) {
			if !yield(e.Entry, err) {
				return
			}
		}
	}
}

// A dated is a row and its time.
type dated struct {
	store.Entry

	ms int64
}

func (q query) order(a, b dated) int {
	if q.reverse {
		a, b = b, a
	}
	return cmp.Or(cmp.Compare(a.ms, b.ms), cmp.Compare(string(a.Key), string(b.Key)))
}

// parts returns what the keys of the index start with before the time.
func (src source) parts(s store.Reader) (prefixes [][]byte, err error) {
	whole := src.index.Prefix()
	if src.at == 0 {
		return [][]byte{whole}, nil
	}
	for from := whole; ; from = beyond(prefixes[len(prefixes)-1]) {
		known := len(prefixes)
		for e, err := range s.Scan(store.Scan{Prefix: whole, From: from, KeysOnly: true}) {
			if err != nil {
				return nil, err
			}
			elements, err := src.decode(e.Key)
			if err != nil {
				return nil, err
			}
			text, ok := elements[0].(string)
			if !ok {
				return nil, src.corrupt()
			}
			prefixes = append(prefixes, src.index.Key(tuple.AppendString(nil, text)))
			break
		}
		if len(prefixes) == known {
			return prefixes, nil
		}
	}
}

// beyond returns a key after all that go on with another element after prefix.
func beyond(prefix []byte) []byte { return append(slices.Clone(prefix), 0xff) }

// decode returns the elements of a key of the index, as far as the time at least.
func (src source) decode(key []byte) ([]any, error) {
	key, _ = src.index.Cut(key)
	elements, err := tuple.Decode(key)
	if err != nil || len(elements) <= src.at {
		return nil, src.corrupt()
	}
	return elements, nil
}

func (src source) corrupt() error {
	return fmt.Errorf("%w: an entry of index %s: see verify", store.ErrCorrupt, src.index.Name())
}

// through yields the rows of the entries of the index that start with prefix.
func (q query) through(s store.Reader, src source, prefix []byte) iter.Seq2[dated, error] {
	return func(yield func(dated, error) bool) {
		for entry, err := range s.Scan(q.scan(prefix)) {
			if err != nil {
				yield(dated{}, err)
				return
			}
			if !tuple.HasPrefix(entry.Key, prefix) {
				return
			}
			var id string
			elements, err := src.decode(entry.Key)
			if err == nil && value.Unmarshal(entry.Value, &id) != nil {
				err = src.corrupt()
			}
			if err != nil {
				yield(dated{}, err)
				return
			}
			ms, _ := elements[src.at].(int64)
			if q.reverse && q.before(ms) || !q.reverse && q.after(ms) {
				return
			}
			if q.before(ms) || q.after(ms) || !strings.HasPrefix(id, q.prefix) {
				continue
			}
			e, err := s.Get(src.rows.Key([]byte(id)))
			if errors.Is(err, store.ErrNotFound) {
				continue // it expired; verify finds an entry without a row
			}
			e.Key = []byte(id)
			if !yield(dated{e, ms}, err) || err != nil {
				return
			}
		}
	}
}

// scan returns the part of an index that has all of q's rows whose entries start
// with prefix.
func (q query) scan(prefix []byte) store.Scan {
	scan := store.Scan{Prefix: prefix, Reverse: q.reverse}
	switch {
	case q.reverse && !q.until.IsZero():
		scan.From = tuple.AppendInt(slices.Clone(prefix), q.until.UnixMilli()+1)
	case q.reverse:
		scan.From = beyond(prefix)
	case !q.since.IsZero():
		scan.From = tuple.AppendInt(slices.Clone(prefix), q.since.UnixMilli())
	}
	return scan
}
