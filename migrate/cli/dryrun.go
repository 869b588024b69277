package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
)

// The JSON forms. Their keys are part of the interface.
type (
	dryRunJSON struct {
		Schema    string     `json:"schema"`
		From      uint32     `json:"from"`
		To        uint32     `json:"to"`
		Adopted   bool       `json:"adopted,omitempty"`
		Diffs     []diffJSON `json:"diffs"`
		DiskBytes uint64     `json:"disk_bytes"`
		RoomBytes uint64     `json:"room_bytes"`
		Error     string     `json:"error,omitempty"`
	}
	diffJSON struct {
		Version    uint32          `json:"version"`
		Name       string          `json:"name"`
		Partitions []partitionJSON `json:"partitions"`
	}
	partitionJSON struct {
		Partition string    `json:"partition"`
		Added     tallyJSON `json:"added"`
		Changed   tallyJSON `json:"changed"`
		Deleted   tallyJSON `json:"deleted"`
	}
	tallyJSON struct {
		Keys        uint64       `json:"keys"`
		BytesBefore uint64       `json:"bytes_before"`
		BytesAfter  uint64       `json:"bytes_after"`
		Samples     []sampleJSON `json:"samples"`
	}
	sampleJSON struct {
		Key     []byte `json:"key"`      // base64
		KeyText string `json:"key_text"` // as dump prints it
		Before  string `json:"before,omitempty"`
		After   string `json:"after,omitempty"`
	}
)

// dryRun is up --dry-run.
type dryRun struct {
	asked   bool
	samples uint16
}

func (d *dryRun) addFlags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&d.asked, "dry-run", false,
		"show what would change and leave the store as it is; what the migrations write goes to the directory for temporary files")
	cmd.Flags().Uint16Var(&d.samples, "samples", 3, "show so many added, changed and deleted keys of each partition, secrets included")
}

func (d *dryRun) run(cmd *cobra.Command, a *app, target uint32) error {
	trying := *a
	trying.tries, trying.reads = true, true
	return trying.withRunner(cmd, true, func(ctx context.Context, r *migrate.Runner, st store.Store) (err error) {
		scratch, err := badgerstore.OpenTemp(ctx, "", st.Limits())
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, scratch.Close()) }()
		dry, err := r.DryRun(ctx, target, migrate.DryRunOptions{Scratch: scratch, Samples: int(d.samples)})
		w := cmd.OutOrStdout()
		if a.json {
			return errors.Join(err, encode(w, newDryRunJSON(dry, err)))
		}
		if err != nil && len(dry.Diffs) == 0 {
			return err
		}
		return errors.Join(err, printDryRun(w, dry))
	})
}

func newDryRunJSON(dry migrate.DryRun, err error) dryRunJSON {
	out := dryRunJSON{Schema: dry.Schema, From: dry.From, To: dry.To, Adopted: dry.Adopted, Diffs: []diffJSON{}, DiskBytes: dry.DiskBytes, RoomBytes: dry.RoomBytes, Error: text(err)}
	for _, d := range dry.Diffs {
		out.Diffs = append(out.Diffs, diffJSON{d.Version, d.Name, newPartitionsJSON(d.Partitions)})
	}
	return out
}

func newPartitionsJSON(partitions []migrate.PartitionDiff) []partitionJSON {
	out := []partitionJSON{}
	for _, p := range partitions {
		out = append(out, partitionJSON{p.Partition, newTallyJSON(p.Added), newTallyJSON(p.Changed), newTallyJSON(p.Deleted)})
	}
	return out
}

func newTallyJSON(t migrate.Tally) tallyJSON {
	out := tallyJSON{t.Keys, t.BytesBefore, t.BytesAfter, []sampleJSON{}}
	for _, s := range t.Samples {
		out.Samples = append(out.Samples, sampleJSON{s.Key, strconv.Quote(string(s.Key)), s.Before, s.After})
	}
	return out
}

func printDryRun(w io.Writer, dry migrate.DryRun) error {
	if len(dry.Diffs) == 0 {
		_, err := fmt.Fprintf(w, "%s schema is at v%d: nothing to do\n", dry.Schema, dry.From)
		return err
	}
	adopted := ""
	if dry.Adopted {
		adopted = fmt.Sprintf(", once adopted at v%d", dry.From)
	}
	fmt.Fprintf(w, "%s schema: v%d -> v%d would change%s\n", dry.Schema, dry.From, dry.To, adopted)
	for _, d := range dry.Diffs {
		fmt.Fprintf(w, "\nv%d  %s\n", d.Version, d.Name)
		if err := printPartitions(w, d.Partitions); err != nil {
			return err
		}
	}
	room := ""
	if dry.RoomBytes > 0 {
		room = fmt.Sprintf(", and %s must stay free beside it", humanize.IBytes(dry.RoomBytes))
	}
	_, err := fmt.Fprintf(w, "\nit would need up to %s more on the disk (an estimate)%s; the store is unchanged\n", humanize.IBytes(dry.DiskBytes), room)
	return err
}

func printPartitions(w io.Writer, partitions []migrate.PartitionDiff) error {
	t := table(w)
	fmt.Fprintln(t, "  PARTITION\tADDED\tCHANGED\tDELETED\tBYTES")
	for _, p := range partitions {
		grown := int64(p.Added.BytesAfter + p.Changed.BytesAfter - p.Changed.BytesBefore - p.Deleted.BytesBefore)
		fmt.Fprintf(t, "  %s\t%d\t%d\t%d\t%+d\n", partitionName(p.Partition), p.Added.Keys, p.Changed.Keys, p.Deleted.Keys, grown)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fit := fitting(w)
	line := func(format string, args ...any) { fmt.Fprintln(w, fit(fmt.Sprintf(format, args...))) }
	for _, p := range partitions {
		for _, s := range p.Added.Samples {
			line("  + %q %s", s.Key, s.After)
		}
		for _, s := range p.Changed.Samples {
			line("  ~ %q %s", s.Key, s.Before)
			line("    -> %s", s.After)
		}
		for _, s := range p.Deleted.Samples {
			line("  - %q %s", s.Key, s.Before)
		}
	}
	return nil
}

func partitionName(name string) string {
	switch name {
	case "":
		return "(outside)"
	case "*":
		return "(others)"
	}
	return name
}
