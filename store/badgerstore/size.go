package badgerstore

import (
	"context"
	"slices"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/disk"
)

var (
	_ store.Sizer     = (*Store)(nil)
	_ store.Spacer    = (*Store)(nil)
	_ store.Encrypter = (*Store)(nil)
)

// Size implements [store.Sizer]: the room that the files of the directories take,
// without the holes of logs that are not yet full.
func (s *Store) Size(ctx context.Context) (uint64, error) {
	if err := s.begin(ctx, "size"); err != nil {
		return 0, err
	}
	defer s.life.RUnlock()
	if s.opts.InMemory {
		return 0, nil
	}
	bytes, err := s.used()
	if err != nil {
		return 0, &store.Error{Op: "size", Err: err}
	}
	return bytes, nil
}

func (s *Store) used() (bytes uint64, err error) {
	for _, dir := range slices.Compact([]string{s.opts.Dir, s.opts.ValueDir}) {
		n, err := disk.Used(dir)
		if err != nil {
			return 0, err
		}
		bytes += n
	}
	return bytes, nil
}

// burst is more than a program writes before it looks for room again.
const burst = 32 << 20

// Free implements [store.Spacer]: what is free in the fuller of the directories, and
// what Badger itself needs on the way: two memtables, as tables of what is in them, and a
// compaction of its first level, which is twice the store at most. A store that is smaller
// than its memtables needs as much as it takes, and 32 MiB for what comes before Free is
// called again. Badger maps its files into memory, and the process dies when it writes to
// such a file on a full disk, so that room must be looked for beforehand.
func (s *Store) Free(ctx context.Context) (free, needed uint64, err error) {
	if err := s.begin(ctx, "free"); err != nil {
		return 0, 0, err
	}
	defer s.life.RUnlock()
	if s.opts.InMemory {
		return 0, 0, &store.Error{Op: "free", Err: store.ErrUnsupported}
	}
	free = ^uint64(0)
	for _, dir := range []string{s.opts.Dir, s.opts.ValueDir} {
		n, err := disk.Free(dir)
		if err != nil {
			return 0, 0, &store.Error{Op: "free", Err: err}
		}
		free = min(free, n)
	}
	memtables := 2 * uint64(s.opts.MemTableSize)
	compaction := uint64(max(0, s.opts.NumLevelZeroTables)) * uint64(s.opts.MemTableSize)
	if !s.large.Load() {
		used, err := s.used()
		if err != nil {
			return 0, 0, &store.Error{Op: "free", Err: err}
		}
		s.large.Store(used+burst >= memtables && 2*used >= compaction)
		memtables, compaction = min(memtables, used+burst), min(compaction, 2*used)
	}
	return free, memtables + compaction, nil
}

// EncryptionKey implements [store.Encrypter] with Badger's own key.
func (s *Store) EncryptionKey() []byte {
	if len(s.opts.EncryptionKey) == 0 {
		return nil
	}
	return s.opts.EncryptionKey
}
