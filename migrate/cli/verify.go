package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrate/backup"
	"github.com/kvmigrate/kvmigrate/migrate/internal/plural"
	"github.com/kvmigrate/kvmigrate/store"
)

type (
	verificationJSON struct {
		Schema   string            `json:"schema"`
		Version  uint32            `json:"version"`
		Stored   bool              `json:"stored"`
		Latest   uint32            `json:"latest"`
		Checked  map[string]uint64 `json:"checked"`
		Skipped  []string          `json:"skipped"`
		Findings []findingJSON     `json:"findings"`
		More     map[string]uint64 `json:"more,omitempty"`
		Error    string            `json:"error,omitempty"`
	}
	findingJSON struct {
		Code      string `json:"code"`
		Version   uint32 `json:"version,omitempty"`
		Partition string `json:"partition,omitempty"`
		Column    string `json:"column,omitempty"`
		Key       []byte `json:"key,omitempty"` // base64
		Text      string `json:"text"`
	}
)

func (a *app) verify() *cobra.Command {
	var sample int
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check that the store is as it should be; changes nothing",
		Long: `Check that the store is as it should be: its history against the migrations of
this program, and what the program itself checks. Changes nothing.

Findings are printed with a code that does not change, those that read the same
once. The keys that they are about can be secret and come only with --json. The
exit code is 3 if there are findings.`,
		Example: a.example("verify --sample 1000"),
		Args:    noArgs,
	}
	cmd.Flags().IntVar(&sample, "sample", 0, "look at so many entries of each table and index, spread over the keys, instead of all")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if sample < 0 {
			return usage(errors.New("--sample is less than 0"))
		}
		reading := *a
		reading.reads = true
		return reading.withRunner(cmd, true, func(ctx context.Context, r *migrate.Runner, _ store.Store) error {
			w, began := a.watch(cmd), time.Now()
			found, err := r.Verify(ctx, migrate.VerifyOptions{Check: a.Verify, Sample: sample, Observer: func(entries uint64) {
				w.observe(backup.Progress{Stage: backup.Verifying, Entries: entries, Elapsed: time.Since(began)})
			}})
			w.end()
			if errors.Is(err, migrate.ErrFindings) {
				err = fmt.Errorf("%s schema has %s; nothing was changed: %w", found.Schema, plural.Of(count(found), "finding"), migrate.ErrFindings)
			}
			if a.json {
				return errors.Join(err, encode(cmd.OutOrStdout(), newVerificationJSON(found, err)))
			}
			return errors.Join(err, printVerification(cmd.OutOrStdout(), found, err))
		})
	}
	return a.withJSON(cmd)
}

// count returns how many findings there are.
func count(v migrate.Verification) uint64 {
	n := uint64(len(v.Findings))
	for _, more := range v.More {
		n += more
	}
	return n
}

func newVerificationJSON(v migrate.Verification, err error) verificationJSON {
	out := verificationJSON{
		Schema: v.Schema, Version: v.Version, Stored: v.Stored, Latest: v.Latest,
		Checked: v.Checked, Skipped: append([]string{}, v.Skipped...), Findings: []findingJSON{}, More: v.More, Error: text(err),
	}
	for _, f := range v.Findings {
		out.Findings = append(out.Findings, findingJSON{f.Code, f.Version, f.Partition, f.Column, f.Key, f.Text})
	}
	return out
}

// printVerification prints the findings, those that read the same once, and what was looked at if err does not say
// that it was not all.
func printVerification(w io.Writer, v migrate.Verification, err error) error {
	var lines []string
	times := map[string]int{}
	for _, f := range v.Findings {
		line := f.Code + "\t" + f.Text
		if f.Partition != "" && !strings.Contains(f.Text, f.Partition) {
			line += " (" + f.Partition + ")"
		}
		if times[line]++; times[line] == 1 {
			lines = append(lines, line)
		}
	}
	t := sheet(w)
	for _, line := range lines {
		if n := times[line]; n > 1 {
			line += fmt.Sprintf(" (%d times)", n)
		}
		fmt.Fprintln(t, line)
	}
	for _, code := range slices.Sorted(maps.Keys(v.More)) {
		fmt.Fprintf(t, "%s\t%d more\n", code, v.More[code])
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, what := range v.Skipped {
		fmt.Fprintln(w, "not checked:", what)
	}
	if err != nil {
		return nil //nolint:nilerr // the caller returns it
	}
	version := "no version"
	if v.Stored {
		version = fmt.Sprintf("v%d", v.Version)
	}
	checked := "nothing to check"
	if len(v.Checked) > 0 {
		var counts []string
		for _, what := range slices.Sorted(maps.Keys(v.Checked)) {
			counts = append(counts, plural.Many(v.Checked[what], what))
		}
		checked = "checked " + strings.Join(counts, ", ")
	}
	_, err = fmt.Fprintf(w, "%s schema is as it should be at %s: %s\n", v.Schema, version, checked)
	return err
}
