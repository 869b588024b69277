package migrate

import (
	"bytes"
	"encoding/binary"
	"errors"
	"iter"
	"strings"
	"time"

	"github.com/kvmigrate/kvmigrate/store"
)

// A Verifier is what [VerifyOptions].Check works with: the snapshot, what is known of
// the schema, and where to report findings. It is valid only during the call.
type Verifier struct {
	store.Reader

	runner *Runner
	sample int
	found  Verification
	kept   map[string]int // findings, by code
}

// Status returns what is known of the schema. Stored is false also if the version
// cannot be read. The migration of Progress may have changed some entries and not
// yet others.
func (v *Verifier) Status() Status { return v.found.Status }

// Report adds a finding. It copies the key.
func (v *Verifier) Report(f FindingError) {
	if v.kept[f.Code]++; v.kept[f.Code] > mostFindings {
		if v.found.More == nil {
			v.found.More = map[string]uint64{}
		}
		v.found.More[f.Code]++
		return
	}
	f.Key = bytes.Clone(f.Key)
	v.found.Findings = append(v.found.Findings, &f)
}

// Count says that n more of what, in the plural, were looked at, for example "rows".
func (v *Verifier) Count(what string, n uint64) { v.found.Checked[what] += n }

// Skip says what was not looked at, and why.
func (v *Verifier) Skip(why string) { v.found.Skipped = append(v.found.Skipped, why) }

// Entries yields the entries whose key starts with prefix, under the rules of
// [store.Reader]: what [Verifier.All] does, or a sample if one was asked for, in no
// order. The sample is found by a few seeks for each entry, and holds the keys of
// what it yields.
func (v *Verifier) Entries(prefix []byte) iter.Seq2[store.Entry, error] {
	if v.sample > 0 {
		return v.some(prefix)
	}
	return v.All(prefix)
}

// All yields the entries whose key starts with prefix, in key order, under the rules
// of [store.Reader]. An entry whose value comes back damaged is reported and passed
// over.
func (v *Verifier) All(prefix []byte) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		for from := []byte{}; from != nil; {
			next := []byte(nil)
			for e, err := range v.Scan(store.Scan{Prefix: prefix, From: from}) {
				if err != nil {
					if next = damagedKey(err); next == nil || bytes.Compare(next, from) < 0 {
						yield(store.Entry{}, err)
						return
					}
					v.damaged(next)
					next = append(next, 0)
					break
				}
				if !yield(e, nil) {
					return
				}
			}
			from = next
		}
	}
}

// A counted is a snapshot that tells an observer how many entries were read of it.
type counted struct {
	store.Reader
	observer func(entries uint64)
	entries  uint64
	told     time.Time
}

// Get implements store.Reader.
func (c *counted) Get(key []byte) (store.Entry, error) {
	c.count()
	return c.Reader.Get(key)
}

// Scan implements store.Reader.
func (c *counted) Scan(s store.Scan) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		for e, err := range c.Reader.Scan(s) {
			c.count()
			if !yield(e, err) {
				return
			}
		}
	}
}

func (c *counted) count() {
	if c.entries++; c.entries%64 == 0 && time.Since(c.told) > time.Second {
		c.tell()
	}
}

func (c *counted) tell() {
	c.told = time.Now()
	c.observer(c.entries)
}

// damagedKey returns a copy of the key whose damaged value ended a scan, nil if err
// is of another kind.
func damagedKey(err error) []byte {
	e, ok := errors.AsType[*store.Error](err)
	if !ok || !errors.Is(err, store.ErrCorrupt) || len(e.Key) == 0 {
		return nil
	}
	return bytes.Clone(e.Key)
}

func (v *Verifier) damaged(key []byte) {
	v.Report(FindingError{Code: codeDamaged, Partition: partitionOf(key), Key: key, Text: "a value does not come back as it was written"})
}

// some yields v.sample entries: the first and the last, then one from the middle of
// the widest gaps between them, and so on. Where keys crowd, gaps get narrower.
func (v *Verifier) some(prefix []byte) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		few, err := v.hasAtMost(v.sample, prefix)
		if err != nil {
			yield(store.Entry{}, err)
			return
		}
		if few {
			v.All(prefix)(yield)
			return
		}
		left := v.sample
		// visit yields the first entry that s selects, if it is before end, and
		// returns its key; nil if there is none.
		visit := func(s store.Scan, end []byte) (key []byte, ok bool) {
			for e, err := range v.Scan(s) {
				key = bytes.Clone(e.Key)
				if err != nil {
					if key = damagedKey(err); key == nil {
						yield(store.Entry{}, err)
						return nil, false
					}
				}
				switch {
				case end != nil && bytes.Compare(key, end) >= 0:
					return nil, true
				case err != nil:
					v.damaged(key)
					return key, true
				}
				left--
				return key, yield(e, nil)
			}
			return nil, true
		}
		first, ok := visit(store.Scan{Prefix: prefix}, nil)
		if !ok || left == 0 {
			return
		}
		last, ok := visit(store.Scan{Prefix: prefix, Reverse: true}, nil)
		if !ok {
			return
		}
		gaps := [][2][]byte{{first, last}}
		for seeks := 4 * left; left > 0 && seeks > 0 && len(gaps) > 0; seeks-- {
			low, high := gaps[0][0], gaps[0][1]
			gaps = gaps[1:]
			middle := between(low, high)
			if middle == nil {
				continue
			}
			key, ok := visit(store.Scan{Prefix: prefix, From: middle}, high)
			if !ok {
				return
			}
			if gaps = append(gaps, [2][]byte{low, middle}); key != nil {
				gaps = append(gaps, [2][]byte{key, high})
			}
		}
	}
}

// hasAtMost reports whether at most n keys start with prefix.
func (v *Verifier) hasAtMost(n int, prefix []byte) (bool, error) {
	for _, err := range v.Scan(store.Scan{Prefix: prefix, KeysOnly: true}) {
		if err != nil {
			return false, err
		}
		if n--; n < 0 {
			return false, nil
		}
	}
	return true, nil
}

// between returns a key half-way between low and high by the eight bytes after what
// they have in common, nil if those leave no room.
func between(low, high []byte) []byte {
	n := 0
	for n < len(low) && n < len(high) && low[n] == high[n] {
		n++
	}
	number := func(key []byte) uint64 {
		var b [8]byte
		copy(b[:], key[n:])
		return binary.BigEndian.Uint64(b[:])
	}
	a, b := number(low), number(high)
	if b < a+2 {
		return nil
	}
	return binary.BigEndian.AppendUint64(bytes.Clone(high[:n]), a+(b-a)/2)
}

// Undeclared reports keys under within that start with none of declared and are no
// records of a schema. It passes over what is declared without reading it, and
// reports a partition once, with its first key. An empty within is the whole store.
func (v *Verifier) Undeclared(within []byte, declared ...[]byte) error {
	return v.outside(within, declared, func(key []byte) (past []byte) {
		if isRecord(key) {
			return nil
		}
		f := FindingError{Code: codeUndeclared, Partition: partitionOf(key), Key: key, Text: "a key belongs to nothing that the program declares"}
		if f.Partition != "" {
			f.Text = "a partition belongs to nothing that the program declares"
			past = store.MustPartition(f.Partition).Prefix()
		}
		v.Report(f)
		return past
	})
}

// outside calls fn with the keys under within that start with none of declared. A
// prefix that fn returns is passed over.
func (v *Verifier) outside(within []byte, declared [][]byte, fn func(key []byte) (past []byte)) error {
	for from := []byte{}; from != nil; {
		past := []byte(nil)
		for e, err := range v.Scan(store.Scan{Prefix: within, From: from, KeysOnly: true}) {
			if err != nil {
				return err
			}
			if past = prefixOf(e.Key, declared); past == nil {
				past = fn(e.Key)
			}
			if past != nil {
				break
			}
		}
		from = afterPrefix(past)
	}
	return nil
}

// prefixOf returns the one of prefixes that key starts with, nil if there is none.
func prefixOf(key []byte, prefixes [][]byte) []byte {
	for _, p := range prefixes {
		if bytes.HasPrefix(key, p) {
			return p
		}
	}
	return nil
}

// afterPrefix returns the first key after all that start with prefix, nil if there
// is none or prefix is empty.
func afterPrefix(prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] < 0xff {
			return append(bytes.Clone(prefix[:i]), prefix[i]+1)
		}
	}
	return nil
}

// partitionOf returns the name of the partition that key is in, "" if it is in none.
func partitionOf(key []byte) string {
	name, _, ok := strings.Cut(string(key), "/")
	if !ok {
		return ""
	}
	if _, err := store.NewPartition(name); err != nil {
		return ""
	}
	return name
}
