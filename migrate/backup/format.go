package backup

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"slices"
	"time"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/value"
)

// The file is a head, a body and a trailer: docs/on-disk-format.md has the bytes.
const (
	// magic shows by its line ends when a file was transferred as text.
	magic  = "\x89KVB\r\n\x1a\n"
	format = 1

	headSize    = len(magic) + 4 + 4 // before the header itself
	maxHeader   = 64 << 10
	trailerSize = 8 + 8 + sha256.Size + sha256.Size

	maxKey    = 16 << 20
	window    = 1 << 20 // of the compression, which bounds what reading takes
	maxWindow = 8 << 20
)

const (
	leastKey = 16
	// workFactor is that of age's scrypt, as a power of two. Keys are random, so
	// that it need not make guessing slow.
	workFactor = 10
)

// encryption is what a header says of a body.
const (
	encryptionNone = "none"
	encryptionAge  = "age"
)

// header is the encoding of Header.
type header struct {
	Schema     string `cbor:"schema"`
	Version    uint32 `cbor:"version"`
	Program    string `cbor:"program"`
	Created    int64  `cbor:"created"` // Unix milliseconds
	Encryption string `cbor:"encryption"`
}

// A writer writes a backup.
type writer struct {
	info    Info
	out     io.Writer // the file and the seal
	seal    hash.Hash // of all bytes of the file
	content hash.Hash // of the records
	cipher  io.WriteCloser
	zip     *zstd.Encoder
	records *bufio.Writer // to the content's checksum and the compression
	scratch []byte
}

func newWriter(f io.Writer, h Header, key []byte) (*writer, error) {
	w := &writer{info: Info{Header: h, Encrypted: key != nil}, seal: sha256.New(), content: newContent(key)}
	counted := &counter{w: f, n: &w.info.Size}
	w.out = io.MultiWriter(counted, w.seal)
	record := header{Schema: h.Schema, Version: h.Version, Program: h.Program, Created: h.Created.UnixMilli(), Encryption: encryptionNone}
	if key != nil {
		record.Encryption = encryptionAge
	}
	data, err := value.Marshal(record)
	if err != nil {
		return nil, err
	}
	if len(data) > maxHeader {
		return nil, fmt.Errorf("the header of the backup has %d bytes and may have %d", len(data), maxHeader)
	}
	head := binary.BigEndian.AppendUint32([]byte(magic), format)
	head = binary.BigEndian.AppendUint32(head, uint32(len(data)))
	if _, err := w.out.Write(append(head, data...)); err != nil {
		return nil, err
	}
	body := w.out
	if key != nil {
		if w.cipher, err = encrypt(body, key); err != nil {
			return nil, err
		}
		body = w.cipher
	}
	w.zip, err = zstd.NewWriter(body, zstd.WithEncoderConcurrency(2), zstd.WithWindowSize(window))
	if err != nil {
		return nil, err
	}
	w.records = bufio.NewWriterSize(io.MultiWriter(w.content, w.zip), 64<<10)
	return w, nil
}

// newContent returns the checksum of records. That of encrypted ones has the key in it,
// so that it does not tell whoever guesses them.
func newContent(key []byte) hash.Hash {
	if key == nil {
		return sha256.New()
	}
	return hmac.New(sha256.New, key)
}

func encrypt(w io.Writer, key []byte) (io.WriteCloser, error) {
	recipient, err := age.NewScryptRecipient(hex.EncodeToString(key))
	if err != nil {
		return nil, err
	}
	recipient.SetWorkFactor(workFactor)
	return age.Encrypt(w, recipient)
}

func decrypt(r io.Reader, key []byte) (io.Reader, error) {
	identity, err := age.NewScryptIdentity(hex.EncodeToString(key))
	if err != nil {
		return nil, err
	}
	identity.SetMaxWorkFactor(workFactor)
	return age.Decrypt(r, identity)
}

// add writes e.
func (w *writer) add(e store.Entry) error {
	head := binary.AppendUvarint(w.scratch[:0], uint64(len(e.Key)))
	head = append(head, e.Key...)
	head = append(head, e.Meta)
	head = binary.AppendUvarint(head, e.ExpiresAt)
	head = binary.AppendUvarint(head, uint64(len(e.Value)))
	w.scratch = head
	if _, err := w.records.Write(head); err != nil {
		return err
	}
	_, err := w.records.Write(e.Value)
	w.info.Entries++
	w.info.Bytes += uint64(len(e.Key) + len(e.Value))
	return err
}

// close writes the rest. The info has no path yet.
func (w *writer) close() (Info, error) {
	if err := errors.Join(w.records.Flush(), w.zip.Close()); err != nil {
		return Info{}, err
	}
	if w.cipher != nil {
		if err := w.cipher.Close(); err != nil {
			return Info{}, err
		}
	}
	sum := w.content.Sum(nil)
	trailer := binary.BigEndian.AppendUint64(nil, w.info.Entries)
	trailer = binary.BigEndian.AppendUint64(trailer, w.info.Bytes)
	trailer = append(trailer, sum...)
	if _, err := w.out.Write(trailer); err != nil {
		return Info{}, err
	}
	if _, err := w.out.Write(w.seal.Sum(nil)); err != nil {
		return Info{}, err
	}
	w.info.Content = identify(sum)
	return w.info, nil
}

// abandon ends the compression's goroutines.
func (w *writer) abandon() {
	w.zip.Reset(io.Discard)
	_ = w.zip.Close()
}

type counter struct {
	w io.Writer
	n *int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	*c.n += int64(n)
	return n, err
}

// An opened is a file whose head and trailer were read.
type opened struct {
	file    *os.File
	info    Info
	body    [2]int64 // where it begins and ends
	content [sha256.Size]byte
	seal    [sha256.Size]byte
	marks   marks // of its schemas, once all was read
}

// open reads the head and the trailer of a file. The caller closes it.
func open(path string) (_ *opened, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
		}
	}()
	o := &opened{file: f, info: Info{Path: path}}
	stat, err := f.Stat()
	if err != nil {
		return nil, err
	}
	o.info.Size = stat.Size()
	if !stat.Mode().IsRegular() {
		return nil, &FileError{path, fmt.Errorf("%w: it is no regular file", ErrForeign)}
	}
	if err := o.readHead(); err != nil {
		return nil, &FileError{path, err}
	}
	if err := o.readTrailer(); err != nil {
		return nil, &FileError{path, err}
	}
	return o, nil
}

func (o *opened) readHead() error {
	head := make([]byte, headSize)
	n, err := o.file.ReadAt(head, 0)
	switch {
	case !bytes.HasPrefix([]byte(magic), head[:min(n, len(magic))]):
		return fmt.Errorf("%w: it is no backup of kvmigrate", ErrForeign)
	case errors.Is(err, io.EOF):
		return errShort
	case err != nil:
		return err
	}
	if v := binary.BigEndian.Uint32(head[len(magic):]); v != format {
		return fmt.Errorf("%w: it is format %d, this program knows %d; restore it with the release that made it", ErrFormat, v, format)
	}
	length := binary.BigEndian.Uint32(head[len(magic)+4:])
	o.body[0] = int64(headSize) + int64(length)
	o.body[1] = o.info.Size - int64(trailerSize)
	switch {
	case length > maxHeader:
		return fmt.Errorf("%w: its header says that it has %d bytes", ErrDamaged, length)
	case o.body[0] > o.body[1]:
		return errShort
	}
	data := make([]byte, length)
	if _, err := o.file.ReadAt(data, int64(headSize)); err != nil {
		return err
	}
	var h header
	if err := value.Unmarshal(data, &h); err != nil {
		return fmt.Errorf("%w: its header cannot be read: %w", ErrDamaged, err)
	}
	o.info.Header = Header{Schema: h.Schema, Version: h.Version, Program: h.Program, Created: time.UnixMilli(h.Created).UTC()}
	switch h.Encryption {
	case encryptionNone:
	case encryptionAge:
		o.info.Encrypted = true
	default:
		return fmt.Errorf("%w: its header says that it is encrypted in an unknown way", ErrDamaged)
	}
	return nil
}

var errShort = fmt.Errorf("%w: it is cut short", ErrDamaged)

func (o *opened) readTrailer() error {
	trailer := make([]byte, trailerSize)
	if _, err := o.file.ReadAt(trailer, o.body[1]); err != nil {
		return err
	}
	o.info.Entries = binary.BigEndian.Uint64(trailer)
	o.info.Bytes = binary.BigEndian.Uint64(trailer[8:])
	copy(o.content[:], trailer[16:])
	copy(o.seal[:], trailer[16+sha256.Size:])
	o.info.Content = identify(o.content[:])
	return nil
}

// checkSeal reads the whole file. Every change of a byte of it, and every cut, breaks
// the seal.
func (o *opened) checkSeal(ctx context.Context, m *meter) error {
	m.begin(Verifying, 0)
	seal := sha256.New()
	if _, err := io.Copy(io.MultiWriter(seal, m), &cancelable{ctx, io.NewSectionReader(o.file, 0, o.info.Size-sha256.Size)}); err != nil {
		return err
	}
	if !bytes.Equal(seal.Sum(nil), o.seal[:]) {
		return &FileError{o.info.Path, fmt.Errorf("%w: it is cut short or was altered", ErrDamaged)}
	}
	return nil
}

// A cancelable reads until ctx ends.
type cancelable struct {
	ctx context.Context
	io.Reader
}

func (c *cancelable) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.Reader.Read(p)
}

// A reader reads the records of a file one after the other.
type reader struct {
	*opened
	ctx     context.Context
	content hash.Hash
	zip     *zstd.Decoder
	in      *bufio.Reader
	read    Info // what was read so far
	key     []byte
	before  []byte // the key before it, whose room the next one takes
	value   []byte
}

// records returns a reader of o's records. The caller closes it.
func (o *opened) records(ctx context.Context, key []byte) (*reader, error) {
	r := &reader{opened: o, ctx: ctx}
	var body io.Reader = &cancelable{ctx, io.NewSectionReader(o.file, o.body[0], o.body[1]-o.body[0])}
	if !o.info.Encrypted {
		key = nil
	} else {
		if key == nil {
			return nil, &FileError{o.info.Path, ErrKey}
		}
		var err error
		if body, err = decrypt(body, key); err != nil {
			if _, ok := errors.AsType[*age.NoIdentityMatchError](err); ok {
				err = ErrKey
			}
			return nil, r.unreadable(err)
		}
	}
	r.content = newContent(key)
	zip, err := zstd.NewReader(body, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return nil, err
	}
	r.zip = zip
	r.in = bufio.NewReaderSize(io.TeeReader(zip, r.content), 64<<10)
	return r, nil
}

func (r *reader) close() { r.zip.Close() }

// unreadable is the error of a body that cannot be read.
func (r *reader) unreadable(err error) error {
	switch {
	case r.ctx.Err() != nil:
		return r.ctx.Err()
	case errors.Is(err, ErrKey), errors.Is(err, ErrDamaged):
	default:
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return &FileError{r.info.Path, err}
}

// next returns the next entry, which is valid until the call after it, or io.EOF after
// the last if all were there. With discard it leaves out the value.
func (r *reader) next(discard bool) (store.Entry, error) {
	if _, err := r.in.Peek(1); errors.Is(err, io.EOF) {
		return store.Entry{}, r.atEnd()
	}
	e, err := r.entry(discard)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return store.Entry{}, r.unreadable(err)
	}
	return e, nil
}

func (r *reader) entry(discard bool) (e store.Entry, err error) {
	n, err := binary.ReadUvarint(r.in)
	if err != nil {
		return e, err
	}
	if n == 0 || n > maxKey {
		return e, fmt.Errorf("%w: a key has %d bytes", ErrDamaged, n)
	}
	key := slices.Grow(r.before[:0], int(n))[:n]
	if _, err := io.ReadFull(r.in, key); err != nil {
		return e, err
	}
	if bytes.Compare(key, r.key) <= 0 {
		return e, fmt.Errorf("%w: its keys are not in order", ErrDamaged)
	}
	r.before, r.key, e.Key = r.key, key, key
	if e.Meta, err = r.in.ReadByte(); err != nil {
		return e, err
	}
	if e.ExpiresAt, err = binary.ReadUvarint(r.in); err != nil {
		return e, err
	}
	if n, err = binary.ReadUvarint(r.in); err != nil {
		return e, err
	}
	if n > 1<<62 {
		return e, fmt.Errorf("%w: a value has %d bytes", ErrDamaged, n)
	}
	r.read.Entries++
	r.read.Bytes += uint64(len(key)) + n
	r.value = r.value[:0]
	for n > 0 && err == nil { // grown as it arrives: what the length says is not to be believed
		part := int(min(n, 64<<10))
		n -= uint64(part)
		if discard {
			_, err = r.in.Discard(part)
			continue
		}
		have := len(r.value)
		r.value = slices.Grow(r.value, part)[:have+part]
		_, err = io.ReadFull(r.in, r.value[have:])
	}
	e.Value = r.value
	return e, err
}

// atEnd returns io.EOF if what was read is what the trailer says.
func (r *reader) atEnd() error {
	if r.read.Entries != r.info.Entries || r.read.Bytes != r.info.Bytes || !bytes.Equal(r.content.Sum(nil), r.opened.content[:]) {
		return r.unreadable(errors.New("its entries are not those that its trailer counts"))
	}
	return io.EOF
}
