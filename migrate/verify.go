package migrate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/hashicorp/go-multierror"

	"github.com/kvmigrate/kvmigrate/migrate/cluster"
	"github.com/kvmigrate/kvmigrate/migrate/internal/turn"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/value"
)

// ErrFindings is matched by every [FindingError], and so by the error of a
// [Runner.Verify] that found something.
var ErrFindings = errors.New("the store is not as it should be")

// mostFindings is how many findings of one code a Verification holds.
const mostFindings = 100

// The codes of what Verify finds in the records of a schema and in the keys around
// them. They do not change, and docs/verify.md says what each means.
const (
	codeUnversioned         = "unversioned"
	codeVersionMissing      = "version_missing"
	codeVersionMalformed    = "version_malformed"
	codeVersionNewer        = "version_newer"
	codeVersionTooOld       = "version_too_old"
	codeHistoryKey          = "history_key"
	codeHistoryMissing      = "history_missing"
	codeHistoryBeyond       = "history_beyond"
	codeHistoryMalformed    = "history_malformed"
	codeHistoryVersion      = "history_version"
	codeHistoryName         = "history_name"
	codeHistoryFingerprint  = "history_fingerprint"
	codeHistoryTime         = "history_time"
	codeProgressMalformed   = "progress_malformed"
	codeProgressLeftover    = "progress_leftover"
	codeProgressVersion     = "progress_version"
	codeProgressNewer       = "progress_newer"
	codeProgressName        = "progress_name"
	codeProgressFingerprint = "progress_fingerprint"
	codeProgressPhase       = "progress_phase"
	codeLockMissing         = "lock_missing"
	codeLockLeftover        = "lock_leftover"
	codeLockMalformed       = "lock_malformed"
	codeTurnMalformed       = "turn_malformed"
	codeIntentMalformed     = "intent_malformed"
	codeNodeMalformed       = "node_malformed"
	codeTrailKey            = "trail_key"
	codeTrailLeftover       = "trail_leftover"
	codeTrailMalformed      = "trail_malformed"
	codeTrailBeyond         = "trail_beyond"
	codeRecordUnknown       = "record_unknown"
	codeUndeclared          = "undeclared"
	codeDamaged             = "damaged"
)

// VerifyOptions say what Verify looks at beside the records of the schema. The zero
// VerifyOptions are nothing.
type VerifyOptions struct {
	// Check is the program's own part, called once, after the rest. It reports
	// what it finds to v, and returns an error only if it could not look. It
	// must not keep v or use it from other goroutines.
	Check func(ctx context.Context, v *Verifier) error

	// Sample is how many entries of a prefix [Verifier.Entries] yields, spread over
	// its keys. 0 means all.
	Sample int

	// Observer, if not nil, is told how many entries were read so far, by Check too:
	// about once a second and at the end, in the goroutine of the call.
	Observer func(entries uint64)
}

// A FindingError is one thing that Verify found wrong. It matches [ErrFindings].
type FindingError struct {
	Code      string // what kind of finding it is, as docs/verify.md lists them; does not change
	Version   uint32 // of the migration whose record it is about, 0 if it is none
	Partition string // the partition that the key belongs to, "" if it is in none
	Column    string // "" if it is not about a column
	Key       []byte // the key in question, which can be secret
	Text      string // what is wrong, in words that contain neither keys nor values
}

func (e *FindingError) Error() string { return e.Text }

// Is reports whether target is ErrFindings.
func (*FindingError) Is(target error) bool { return target == ErrFindings }

// A Verification is what Verify looked at and what it found.
type Verification struct {
	Status // as far as it can be read

	Findings []*FindingError   // at most 100 of a code
	More     map[string]uint64 // by code: how many there are beyond those; nil if none
	Checked  map[string]uint64 // how many of what were looked at, for example "history records"
	Skipped  []string          // what was not looked at, and why
}

// Err returns the findings as a *multierror.Error that matches [ErrFindings], or nil
// if there are none.
func (v Verification) Err() error {
	var all *multierror.Error
	for _, f := range v.Findings {
		all = multierror.Append(all, f)
	}
	return all.ErrorOrNil()
}

// Verify compares what the store keeps about the schema with the registry, has the
// program check the rest, and reports everything that it finds together. It reads
// one snapshot and writes nothing. It holds a bounded number of findings, whatever
// the size of the store.
//
// The error is that of [Verification.Err] if the store was read to the end, and
// otherwise the one that ended it, such as a cancelled context; the Verification
// is then of what was read.
func (r *Runner) Verify(ctx context.Context, o VerifyOptions) (Verification, error) {
	var v *Verifier
	begin := func(s store.Reader) {
		status := Status{Schema: r.schema, Latest: r.registry.Latest()}
		v = &Verifier{
			Reader: s, runner: r, sample: o.Sample, kept: map[string]int{},
			found: Verification{Status: status, Checked: map[string]uint64{}},
		}
	}
	begin(nil)
	err := r.store.View(ctx, func(s store.Reader) error {
		if o.Observer != nil {
			c := &counted{Reader: s, observer: o.Observer, told: time.Now()}
			defer c.tell()
			s = c
		}
		begin(s)
		if err := v.records(); err != nil || o.Check == nil {
			return err
		}
		return call(func() error { return o.Check(ctx, v) })
	})
	if err != nil {
		return v.found, fmt.Errorf("verify %s schema: %w", r.schema, err)
	}
	return v.found, v.found.Err()
}

// records checks what the runner keeps in the store.
func (v *Verifier) records() error {
	readable, err := v.version()
	if err != nil {
		return err
	}
	for _, check := range []func(versioned bool) error{v.history, v.underWay, v.nodes, v.others} {
		if err := check(readable); err != nil {
			return err
		}
	}
	s := &v.found.Status
	if plan, err := v.runner.registry.Plan(s.Schema, s.Version, s.Latest); err == nil {
		s.Pending = plan.Pending
	}
	return nil
}

// version checks the version. It reports whether there is one that the other
// records can be held against: that of a store in which nothing speaks of one is 0.
func (v *Verifier) version() (readable bool, err error) {
	r, s := v.runner, &v.found.Status
	s.Version, s.Stored, err = r.readVersion(v)
	if err == nil && !s.Stored {
		err = r.inspectOrphans(v)
	}
	if e, ok := errors.AsType[*CorruptError](err); ok {
		code := codeVersionMissing
		if bytes.Equal(e.Key, r.keys.version) {
			code = codeVersionMalformed
		}
		v.Report(FindingError{Code: code, Key: e.Key, Text: e.Reason})
		return false, nil
	}
	if err != nil {
		return false, err
	}
	l := r.registry.ladder()
	switch {
	case !s.Stored:
		return true, v.unversioned()
	case s.Version > s.Latest:
		newer := &inspection{runner: r, target: s.Latest, found: found{version: s.Version}}
		if newer.inspectNewer(v) == nil {
			v.Skip(fmt.Sprintf("what this program does not know: the store is at v%d, and lets programs of v%d use it", s.Version, s.Latest))
			break
		}
		v.report(codeVersionNewer, s.Version, r.keys.version, "it is at v%d and this program knows only v%d", s.Version, s.Latest)
	case s.Version > 0 && s.Version <= l.base:
		v.report(codeVersionTooOld, s.Version, r.keys.version, "it is at v%d and this program upgrades only from v%d on", s.Version, l.base+1)
	}
	return true, nil
}

// unversioned checks a store in which nothing speaks of a version.
func (v *Verifier) unversioned() error {
	if v.runner.allowUnversioned || v.runner.adopt != nil {
		return nil
	}
	foreign, err := holdsForeignData(v)
	if foreign {
		v.Report(FindingError{Code: codeUnversioned, Text: "it holds data but no schema version, so it may belong to another program"})
	}
	return err
}

// history checks that each version up to the stored one, from 1 on or from where the
// store was created or adopted, has a record, that it is the record of this
// program's migration, and that no other is there.
func (v *Verifier) history(versioned bool) error {
	l := v.runner.registry.ladder()
	stored := uint64(v.found.Version)
	due := uint64(1)     // the version whose record comes next
	agrees := true       // whether all names so far are the program's
	var before time.Time // when the last one was finished
	missing := func(from, to uint64) {
		switch {
		case from == to:
			v.report(codeHistoryMissing, uint32(from), v.runner.keys.historyOf(uint32(from)), "its history has no record of v%d", from)
		case from < to:
			v.report(codeHistoryMissing, uint32(from), v.runner.keys.historyOf(uint32(from)), "its history has no records of v%d to v%d", from, to)
		}
	}
	for e, err := range v.All([]byte(v.runner.keys.history)) {
		if err != nil {
			return err
		}
		v.Count("history records", 1)
		n, ok := number(e.Key, v.runner.keys.history, 32)
		if !ok {
			v.report(codeHistoryKey, 0, e.Key, "a history record has a key that is not a version in ten digits")
			continue
		}
		version := uint32(n)
		last := n - 1
		if versioned && n > stored {
			v.report(codeHistoryBeyond, version, e.Key, "its version is v%d but its history has a record of v%d", stored, n)
			last = stored
		}
		a, err := decodeApplied(e.Value)
		if begins := due == 1 && (err != nil || a.Origin != Migrated); !begins {
			missing(due, last)
		}
		due = n + 1
		if err != nil {
			v.report(codeHistoryMalformed, version, e.Key, "the history record of v%d cannot be read", n)
			continue
		}
		if a.Version != version {
			v.report(codeHistoryVersion, version, e.Key, "the history record of v%d says v%d", n, a.Version)
		}
		if l.has(version) {
			m, same := l.at(version), a.Fingerprint == l.fingerprint(version)
			squashed := same && (a.Origin == Created || m.Baseline != nil) // its name stands for several
			switch {
			case a.Name != m.Name && !squashed:
				agrees = false
				v.report(codeHistoryName, version, e.Key, "v%d in the store is migration %q, in this program it is %q", n, a.Name, m.Name)
			case !same && agrees:
				v.report(codeHistoryFingerprint, version, e.Key, "the fingerprint of v%d does not belong to the names of this program's migrations", n)
			}
		}
		switch {
		case a.Finished.Before(a.Started):
			v.report(codeHistoryTime, version, e.Key, "v%d was finished before it was started", n)
		case a.Finished.Before(before):
			v.report(codeHistoryTime, version, e.Key, "v%d was finished before the version before it", n)
		}
		before = a.Finished
	}
	if versioned {
		missing(due, stored)
	}
	return nil
}

// underWay checks the records of a migration of several transactions: all of them are
// there while it is under way, and none otherwise.
func (v *Verifier) underWay(versioned bool) error {
	progress, err := v.record(v.runner.keys.progress)
	if err != nil {
		return err
	}
	var steps uint64
	if progress != nil {
		v.Count("progress records", 1)
		p, err := decodeProgress(progress)
		if err != nil {
			v.report(codeProgressMalformed, 0, v.runner.keys.progress, "the progress of a migration cannot be read")
		} else {
			v.progress(p, versioned)
			steps = p.Transactions
		}
	}
	turn, err := v.turn()
	if err != nil {
		return err
	}
	if err := v.lock(progress != nil || turn); err != nil {
		return err
	}
	return v.trail(progress != nil, steps)
}

func (v *Verifier) progress(p *Progress, versioned bool) {
	key, s := v.runner.keys.progress, &v.found.Status
	l := v.runner.registry.ladder()
	switch {
	case versioned && p.Version <= s.Version:
		v.report(codeProgressLeftover, p.Version, key, "it is at v%d and still has the progress of v%d", s.Version, p.Version)
		return
	case versioned && s.Version > 0 && p.Version != s.Version+1:
		v.report(codeProgressVersion, p.Version, key, "it is at v%d but carries progress of v%d", s.Version, p.Version)
		return
	}
	s.Progress = p
	switch {
	case p.Version > s.Latest:
		v.report(codeProgressNewer, p.Version, key, "a migration to v%d was interrupted, and this program knows only v%d", p.Version, s.Latest)
	case !l.has(p.Version) || versioned && p.Version != l.next(s.Version):
		v.report(codeProgressVersion, p.Version, key, "a migration from v%d to v%d was interrupted, and this program has none", s.Version, p.Version)
	case p.Name != l.at(p.Version).Name:
		v.report(codeProgressName, p.Version, key, "v%d, which was interrupted, is migration %q, in this program it is %q", p.Version, p.Name, l.at(p.Version).Name)
	case p.fingerprint != l.fingerprint(p.Version).String():
		v.report(codeProgressFingerprint, p.Version, key, "the fingerprint of v%d, which was interrupted, does not belong to the names of this program's migrations", p.Version)
	}
	if p.Phase < 1 || p.rows < 0 {
		v.report(codeProgressPhase, p.Version, key, "the progress of v%d is in no phase", p.Version)
	}
}

// turn reports whether it is somebody's turn to migrate.
func (v *Verifier) turn() (bool, error) {
	key := v.runner.keys.turn
	data, err := v.record(key)
	if data == nil || err != nil {
		return false, err
	}
	var t turn.Record
	if value.Unmarshal(data, &t) != nil || len(t.Token) != tokenBytes {
		v.report(codeTurnMalformed, 0, key, "whose turn it is to migrate cannot be read")
	}
	return true, nil
}

// nodes checks that what the processes that share a store agree by can be read. A node
// that cannot read it does nothing.
func (v *Verifier) nodes(bool) error {
	k := v.runner.keys
	intent, err := v.record(k.intent)
	if err != nil {
		return err
	}
	if intent != nil && cluster.CheckRecord(v.runner.schema, k.intent, intent) != nil {
		v.report(codeIntentMalformed, 0, k.intent, "the intent to upgrade it cannot be read")
	}
	for _, prefix := range []string{k.node, k.beat} {
		for e, err := range v.All([]byte(prefix)) {
			if err != nil {
				return err
			}
			v.Count("records of nodes", 1)
			if cluster.CheckRecord(v.runner.schema, e.Key, e.Value) != nil {
				v.report(codeNodeMalformed, 0, e.Key, "the registration of a node, or its sign of life, cannot be read")
			}
		}
	}
	return nil
}

func (v *Verifier) lock(underWay bool) error {
	key := v.runner.keys.lock
	lock, err := v.record(key)
	switch {
	case err != nil:
		return err
	case lock == nil && underWay:
		v.report(codeLockMissing, 0, key, "a migration is under way and nothing holds its lock")
	case lock == nil:
		return nil
	case !underWay:
		v.report(codeLockLeftover, 0, key, "it has the lock of a migration and no progress of one")
	}
	var l lockRecord
	if lock != nil && (value.Unmarshal(lock, &l) != nil || len(l.Token) != tokenBytes) {
		v.report(codeLockMalformed, 0, key, "the lock of a migration cannot be read")
	}
	return nil
}

// trail checks the marks of a migration that has committed so many steps.
func (v *Verifier) trail(underWay bool, steps uint64) error {
	for e, err := range v.All([]byte(v.runner.keys.trail)) {
		if err != nil {
			return err
		}
		v.Count("trail marks", 1)
		step, ok := number(e.Key, v.runner.keys.trail, 64)
		var m mark
		switch {
		case !ok:
			v.report(codeTrailKey, 0, e.Key, "a mark of a migration's trail has a key that is not a number in ten digits")
		case !underWay:
			v.report(codeTrailLeftover, 0, e.Key, "it has the trail of a migration and no progress of one")
		case value.Unmarshal(e.Value, &m) != nil:
			v.report(codeTrailMalformed, 0, e.Key, "a mark of a migration's trail cannot be read")
		case step > steps:
			v.report(codeTrailBeyond, 0, e.Key, "the trail of a migration goes beyond its progress")
		}
	}
	return nil
}

// others finds what lies among the records and is none.
func (v *Verifier) others(bool) error {
	k := v.runner.keys
	declared := [][]byte{[]byte(k.history), []byte(k.trail), []byte(k.node), []byte(k.beat)}
	return v.outside([]byte(k.reserved), declared, func(key []byte) []byte {
		for _, record := range [][]byte{k.version, k.progress, k.lock, k.turn, k.intent} {
			if bytes.Equal(key, record) {
				return nil
			}
		}
		v.report(codeRecordUnknown, 0, key, "a key that is reserved for the records of a schema is none of them")
		return nil
	})
}

// record returns the value of key, nil if there is none or it is damaged.
func (v *Verifier) record(key []byte) ([]byte, error) {
	e, err := v.Get(key)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, nil
	case errors.Is(err, store.ErrCorrupt):
		v.damaged(key)
		return nil, nil
	case err != nil:
		return nil, err
	}
	return e.Value, nil
}

func (v *Verifier) report(code string, version uint32, key []byte, format string, args ...any) {
	v.Report(FindingError{Code: code, Version: version, Key: key, Text: fmt.Sprintf(format, args...)})
}

// number returns what follows prefix in a key that numbers records, and whether it
// is written as a runner does.
func number(key []byte, prefix string, bits int) (uint64, bool) {
	n, err := strconv.ParseUint(string(key[len(prefix):]), 10, bits)
	return n, err == nil && n > 0 && string(key) == fmt.Sprintf("%s%010d", prefix, n)
}
