package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/hashicorp/go-multierror"
	"github.com/spf13/cobra"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrate/backup"
	"github.com/kvmigrate/kvmigrate/migrate/internal/plural"
	"github.com/kvmigrate/kvmigrate/migrate/transfer"
	"github.com/kvmigrate/kvmigrate/store"
)

// The JSON forms. Their keys are part of the interface.
type (
	copiedJSON struct {
		From       string         `json:"from"`
		To         string         `json:"to"`
		Entries    uint64         `json:"entries"`
		Bytes      uint64         `json:"bytes"` // of keys and values
		Before     uint64         `json:"before"`
		LeftOut    uint64         `json:"left_out"`
		Already    bool           `json:"already"`
		Partitions []sumJSON      `json:"partitions"`
		Refusals   []refusalJSON  `json:"refusals,omitempty"`
		Mismatches []mismatchJSON `json:"mismatches,omitempty"`
		Error      string         `json:"error,omitempty"`
	}
	sumJSON struct {
		Partition string `json:"partition"`
		Entries   uint64 `json:"entries"`
		Bytes     uint64 `json:"bytes"`
		Expiring  uint64 `json:"expiring"`
		Checksum  string `json:"checksum"`
	}
	refusalJSON struct {
		Partition string `json:"partition"`
		Reason    string `json:"reason"`
		Entries   uint64 `json:"entries"`
		First     []byte `json:"first"` // base64
	}
	mismatchJSON struct {
		Partition string `json:"partition"`
		Different uint64 `json:"different"`
		First     []byte `json:"first"` // base64
	}
)

func (a *app) copy() *cobra.Command {
	var from, to string
	var plaintext bool
	cmd := &cobra.Command{
		Use:   "copy --to STORE",
		Short: "Copy a whole store into a new one, also of another kind",
		Long: `Copy all entries of a store, of all schemas, into a new one, also of another
kind: from a directory to etcd, or back. Stop the programs that use the source
first; it stays as it is.

What the destination cannot keep is refused before anything is written. What is
stopped or killed on the way, the same command goes on with. At the end both
sides are compared, and only then is the destination a store: until then every
program refuses it.

No migration is run and no version compared: a program can copy stores of
programs that are newer than itself.`,
		Example: fmt.Sprintf("  %s copy --from DIR --to OTHER", a.Name),
		Args:    noArgs,
	}
	cmd.Flags().StringVar(&from, "from", "", "the store to copy (default --store)")
	cmd.Flags().StringVar(&to, "to", "", "the new store")
	cmd.Flags().BoolVar(&plaintext, "plaintext", false, "let the entries of an encrypted store be in the clear in the new one")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if from == "" {
			from = a.store
		}
		switch {
		case from == "":
			return usage(errors.New("--from is missing: name the store to copy"))
		case to == "":
			return usage(errors.New("--to is missing: name the new store"))
		case from == to || sameDirectory(from, to):
			return usage(errors.New("--from and --to are the same store"))
		}
		report, err := a.transfer(cmd, from, to, transfer.Options{Plaintext: plaintext})
		return a.printCopy(cmd.OutOrStdout(), from, to, report, err)
	}
	return a.withJSON(cmd)
}

// sameDirectory reports whether two names are of one directory.
func sameDirectory(one, other string) bool {
	a, err := os.Stat(one)
	if err != nil {
		return false
	}
	b, err := os.Stat(other)
	return err == nil && os.SameFile(a, b)
}

// transfer opens both stores, copies, and closes them again.
func (a *app) transfer(cmd *cobra.Command, from, to string, o transfer.Options) (report transfer.Report, err error) {
	ctx, stderr := cmd.Context(), cmd.ErrOrStderr()
	log := a.logger(stderr)
	b := a.bar(stderr, false)
	if b != nil {
		defer b.end()
		log = a.logger(b)
	}
	defer sayInterrupted(ctx, log, b)()
	source, err := a.openWaiting(cmd, b, from, OpenOptions{MustExist: true, ReadOnly: true, Wait: a.wait, Logger: log})
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	// What is refused in any case must not leave a new store behind.
	if err := source.View(ctx, a.whole); err != nil {
		return report, fmt.Errorf("look at the source: %w; nothing was written", err)
	}
	destination, err := a.openWaiting(cmd, b, to, OpenOptions{Migrates: true, Wait: a.wait, Logger: log})
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, destination.Close()) }()
	o.Observer = newCopyLog(ctx, log).observe
	if b != nil {
		o.Observer = b.observeCopy
	}
	report, err = transfer.Copy(ctx, source, destination, o)
	a.logKeys(ctx, log, err)
	return report, err
}

// logKeys logs the keys that an error of a copy or a restore is about, for who asks for
// them.
func (a *app) logKeys(ctx context.Context, log *slog.Logger, err error) {
	if e, ok := errors.AsType[*store.Error](err); ok && e.Key != nil {
		log.DebugContext(ctx, "the key in question", "key", string(e.Key))
	}
	for _, e := range refusals(err) {
		log.DebugContext(ctx, "the first of them", "partition", e.Partition, "reason", string(e.Reason), "key", string(e.First))
	}
	for _, e := range parts[*backup.RefusalError](err) {
		log.DebugContext(ctx, "the first of them", "reason", e.Reason, "key", string(e.First))
	}
	for _, e := range mismatches(err) {
		log.DebugContext(ctx, "the first that differs", "partition", e.Source.Partition, "key", string(e.First))
	}
}

// refusals are those in err.
func refusals(err error) []*transfer.RefusalError { return parts[*transfer.RefusalError](err) }

// mismatches are those in err.
func mismatches(err error) []*transfer.MismatchError { return parts[*transfer.MismatchError](err) }

// parts returns those of several errors together that are a T.
func parts[T error](err error) (found []T) {
	all, ok := errors.AsType[*multierror.Error](err)
	if !ok {
		return nil
	}
	for _, e := range all.Errors {
		if part, ok := errors.AsType[T](e); ok {
			found = append(found, part)
		}
	}
	return found
}

// logPause is how often a copy logs how far it is.
const logPause = 10 * time.Second

// A copyLog logs how far a copy is.
type copyLog struct {
	ctx   context.Context //nolint:containedctx // for the length of one copy
	log   *slog.Logger
	stage transfer.Stage
	told  time.Time
}

func newCopyLog(ctx context.Context, log *slog.Logger) *copyLog { return &copyLog{ctx: ctx, log: log} }

func (l *copyLog) observe(p transfer.Progress) {
	switch now := time.Now(); {
	case p.Stage != l.stage:
		l.stage, l.told = p.Stage, now
		l.log.InfoContext(l.ctx, stageText(p))
	case !p.Ended && now.Sub(l.told) >= logPause:
		l.told = now
		l.log.InfoContext(l.ctx, string(p.Stage), "entries", p.Entries, "total", p.Total, "bytes", p.Bytes)
	}
}

// stageText says what begins.
func stageText(p transfer.Progress) string {
	switch {
	case p.Stage == transfer.Counting:
		return "looking at the source"
	case p.Stage == transfer.Comparing:
		return "comparing both sides, " + plural.Of(p.Total, "entry")
	case p.Before > 0:
		return fmt.Sprintf("going on with the copy after %d of %s", p.Before, plural.Of(p.Total, "entry"))
	}
	return "copying " + plural.Of(p.Total, "entry")
}

// observeCopy shows how far a copy is.
func (b *bar) observeCopy(p transfer.Progress) {
	b.observeStage(string(p.Stage), p.Entries, p.Total, p.Before, p.Elapsed)
}

// observeStage shows how far something is that is no migration: how many of the total are
// done, those that were done before it began among them.
func (b *bar) observeStage(name string, done, total, before uint64, elapsed time.Duration) {
	e := migrate.Event{Migration: migrate.Migration{Name: name}, Done: done, Total: total, Elapsed: elapsed}
	if seconds := elapsed.Seconds(); seconds > 0 {
		e.Rate = float64(done-before) / seconds
	}
	if left := total - min(done, total); e.Rate > 0 && left > 0 {
		e.ETA = time.Duration(float64(left) / e.Rate * float64(time.Second))
	}
	b.observe(e)
}

// printCopy prints what a copy came to and returns its error.
func (a *app) printCopy(w io.Writer, from, to string, r transfer.Report, err error) error {
	if a.json {
		if err != nil && len(refusals(err)) == 0 && len(mismatches(err)) == 0 {
			return err
		}
		return errors.Join(err, encode(w, newCopiedJSON(from, to, r, err)))
	}
	if err != nil {
		return err
	}
	t := table(w)
	fmt.Fprintln(t, "PARTITION\tENTRIES\tBYTES\tCHECKSUM")
	for _, s := range r.Partitions {
		fmt.Fprintf(t, "%s\t%d\t%d\t%x\n", partitionName(s.Partition), s.Entries, s.Bytes, s.Checksum[:8])
	}
	if err := t.Flush(); err != nil {
		return err
	}
	did := fmt.Sprintf("copied %s to %s", from, to)
	if r.Already {
		did = fmt.Sprintf("%s is a copy of %s already", to, from)
	}
	_, err = fmt.Fprintf(w, "%s: %s, %s; both sides are the same\n", did, plural.Of(r.Entries, "entry"), humanize.IBytes(r.Bytes))
	return err
}

func newCopiedJSON(from, to string, r transfer.Report, err error) copiedJSON {
	out := copiedJSON{From: from, To: to, Entries: r.Entries, Bytes: r.Bytes, Before: r.Before, LeftOut: r.LeftOut, Already: r.Already, Partitions: []sumJSON{}, Error: text(err)}
	for _, s := range r.Partitions {
		out.Partitions = append(out.Partitions, sumJSON{s.Partition, s.Entries, s.Bytes, s.Expiring, fmt.Sprintf("%x", s.Checksum)})
	}
	for _, e := range refusals(err) {
		out.Refusals = append(out.Refusals, refusalJSON{e.Partition, string(e.Reason), e.Entries, e.First})
	}
	for _, e := range mismatches(err) {
		out.Mismatches = append(out.Mismatches, mismatchJSON{e.Source.Partition, e.Different, e.First})
	}
	return out
}
