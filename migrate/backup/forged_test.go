package backup_test

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/kvmigrate/kvmigrate/migrate/backup"
)

// forge writes a file with a whole seal around whatever it is given.
func forge(t *testing.T, header string, body []byte, entries, bytes uint64, content [sha256.Size]byte) string {
	t.Helper()
	file := []byte("\x89KVB\r\n\x1a\n\x00\x00\x00\x01")
	file = binary.BigEndian.AppendUint32(file, uint32(len(header)))
	file = append(append(file, header...), body...)
	file = binary.BigEndian.AppendUint64(file, entries)
	file = binary.BigEndian.AppendUint64(file, bytes)
	file = append(file, content[:]...)
	seal := sha256.Sum256(file)
	path := filepath.Join(t.TempDir(), "forged")
	if err := os.WriteFile(path, append(file, seal[:]...), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestForged: a seal does not make nonsense a backup.
func TestForged(t *testing.T) {
	const header = "\xa5\x66schema\x63app\x67created\x00\x67program\x60\x67version\x03\x6aencryption\x64none"
	zip, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	compressed := func(records string) []byte { return zip.EncodeAll([]byte(records), nil) }
	const one = "\x01a\x00\x00\x01x" // one entry of two bytes
	for _, tt := range []struct {
		name, header   string
		body           []byte
		records        string // of which the checksum is
		entries, bytes uint64
		good           bool
	}{
		{name: "whole", header: header, body: compressed(one), records: one, entries: 1, bytes: 2, good: true},
		{name: "no entries", header: header, body: compressed(""), good: true},
		{name: "fewer entries than counted", header: header, body: compressed(one), records: one, entries: 2, bytes: 2},
		{name: "more bytes than counted", header: header, body: compressed(one), records: one, entries: 1, bytes: 1},
		{name: "other content", header: header, body: compressed(one), records: "x", entries: 1, bytes: 2},
		{name: "a key of no bytes", header: header, body: compressed("\x00\x00\x00\x01x"), records: "\x00\x00\x00\x01x", entries: 1, bytes: 1},
		{name: "a key of 2^60 bytes", header: header, body: compressed("\x80\x80\x80\x80\x80\x80\x80\x80\x10a"), entries: 1},
		{name: "a value of 2^60 bytes", header: header, body: compressed("\x01a\x00\x00\x80\x80\x80\x80\x80\x80\x80\x80\x10x"), entries: 1},
		{name: "a value of 2^64-1 bytes", header: header, body: compressed("\x01a\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01x"), entries: 1},
		{name: "a number too long", header: header, body: compressed(strings.Repeat("\xff", 20)), entries: 1},
		{name: "one key twice", header: header, body: compressed(one + one), records: one + one, entries: 2, bytes: 4},
		{name: "half an entry", header: header, body: compressed("\x01a\x00"), records: "\x01a\x00", entries: 1, bytes: 1},
		{name: "not compressed", header: header, body: []byte(one), records: one, entries: 1, bytes: 2},
		{name: "a header that is no map", header: "\x00", body: compressed(one), records: one, entries: 1, bytes: 2},
		{name: "an empty header", header: "", body: compressed(one), records: one, entries: 1, bytes: 2},
		{name: "a header cut short", header: header[:len(header)-1], body: compressed(one), records: one, entries: 1, bytes: 2},
		{name: "unknown encryption", header: strings.Replace(header, "none", "rot1", 1), body: compressed(one), records: one, entries: 1, bytes: 2},
		{name: "encrypted without being so", header: strings.Replace(header, "\x64none", "\x63age", 1), body: compressed(one), records: one, entries: 1, bytes: 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := forge(t, tt.header, tt.body, tt.entries, tt.bytes, sha256.Sum256([]byte(tt.records)))
			_, err := backup.Verify(t.Context(), path, backup.RestoreOptions{Key: []byte("0123456789abcdef")})
			if tt.good && err != nil {
				t.Errorf("Verify: %v", err)
			}
			if !tt.good && !errors.Is(err, backup.ErrDamaged) {
				t.Errorf("Verify = %v, want ErrDamaged", err)
			}
		})
	}
}

func TestNewerFormat(t *testing.T) {
	path := filepath.Join(t.TempDir(), "newer")
	if err := os.WriteFile(path, []byte("\x89KVB\r\n\x1a\n\x00\x00\x00\x02"+strings.Repeat("x", 200)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := backup.Inspect(path); !errors.Is(err, backup.ErrFormat) || !isType[*backup.FileError](err) {
		t.Errorf("Inspect = %v, want ErrFormat", err)
	}
}
