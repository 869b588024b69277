package badgerstore_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
)

// writerDir names the directory in which the test binary is to be the process
// that TestKill kills.
const writerDir = "BADGERSTORE_TEST_WRITER_DIR"

func TestMain(m *testing.M) {
	for name, run := range map[string]func(string) error{writerDir: write, replaceDir: replaceForever} {
		if dir := os.Getenv(name); dir != "" {
			if err := run(dir); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			return
		}
	}
	os.Exit(m.Run())
}

// rows is the number of keys that each of the writer's transactions sets, to
// values that all name the transaction.
const rows = 20

// write commits transactions until it is killed and prints the number of each one
// that is acknowledged.
func write(dir string) error {
	ctx := context.Background()
	st, err := badgerstore.Open(ctx, dir, badgerstore.Options{Configure: tiny})
	if err != nil {
		return err
	}
	n, err := lastTransaction(ctx, st)
	if err != nil {
		return err
	}
	fmt.Println("open", n)
	for {
		n++
		err := st.Update(ctx, func(tx store.Txn) error {
			for row := range rows {
				e := store.Entry{Key: fmt.Appendf(nil, "row/%02d", row), Value: value(n, row)}
				if err := tx.Set(e); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		fmt.Println(n)
	}
}

// value is what transaction n writes to a row: every fourth value is long enough
// for the value log, all of them together fill a memtable every few dozen
// transactions.
func value(n, row int) []byte {
	length := 700
	if row%4 == 0 {
		length = 3000
	}
	return fmt.Appendf(nil, "%d %s", n, strings.Repeat(string(rune('a'+row)), length))
}

// lastTransaction returns the number of the transaction that wrote what st holds,
// and an error unless all of it is of that one.
func lastTransaction(ctx context.Context, st store.Store) (n int, err error) {
	err = st.View(ctx, func(r store.Reader) error {
		row := 0
		for e, err := range r.Scan(store.Scan{}) {
			if err != nil {
				return err
			}
			text, _, _ := strings.Cut(string(e.Value), " ")
			if row == 0 {
				if n, err = strconv.Atoi(text); err != nil {
					return err
				}
			}
			if string(e.Key) != fmt.Sprintf("row/%02d", row) || string(e.Value) != string(value(n, row)) {
				return fmt.Errorf("torn transaction: row %d is of transaction %s, row 0 of %d", row, text, n)
			}
			row++
		}
		if row != 0 && row != rows {
			return fmt.Errorf("torn transaction: %d of %d rows", row, rows)
		}
		return nil
	})
	return n, err
}

// No transaction is torn and none that was acknowledged is lost when the process
// is killed at any moment.
func TestKill(t *testing.T) {
	kills := 15
	if os.Getenv("KVMIGRATE_SOAK") != "" {
		kills = 500
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "store")
	last := 0
	for kill := range kills {
		// The number of acknowledgements to wait for makes the moment random; the
		// writer goes on while the kill is on its way. The first is a kill at once.
		after := 1 + rand.N(150)
		if kill == 0 {
			after = 0
		}
		writer := exec.CommandContext(t.Context(), self)
		writer.Env = append(os.Environ(), writerDir+"="+dir)
		writer.Stderr = os.Stderr
		out, err := writer.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := writer.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for i := 0; i < after && lines.Scan(); i++ {
			last = acknowledged(t, lines.Text(), last)
			if kill == 1 && i == 0 {
				wantLockedBy(t, dir, writer.Process.Pid)
			}
		}
		if err := writer.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() { // acknowledged before the kill arrived
			last = acknowledged(t, lines.Text(), last)
		}
		_ = writer.Wait()

		st, err := badgerstore.Open(t.Context(), dir, badgerstore.Options{Configure: tiny, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatalf("kill %d, after %d lines: Open: %v", kill, after, err)
		}
		n, err := lastTransaction(t.Context(), st)
		if err != nil {
			t.Errorf("kill %d, after %d lines: %v", kill, after, err)
		}
		// The transaction in flight may have been committed.
		if n != last && n != last+1 {
			t.Errorf("kill %d, after %d lines: the store holds transaction %d; want the last acknowledged one, %d, or the next", kill, after, n, last)
		}
		last = n
		if err := st.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	if last == 0 {
		t.Error("no transaction was written")
	}
	t.Logf("%d kills, %d transactions", kills, last)
}

// acknowledged returns the transaction that line acknowledges. A line that the
// kill cut short acknowledges none.
func acknowledged(t *testing.T, line string, last int) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimPrefix(line, "open "))
	if err != nil || n < last {
		t.Logf("line %q after transaction %d", line, last)
		return last
	}
	return n
}

func wantLockedBy(t *testing.T, dir string, pid int) {
	t.Helper()
	_, err := badgerstore.Open(t.Context(), dir, badgerstore.Options{Configure: tiny})
	wantError(t, "Open while another process has the store open", err, store.ErrLocked)
	self, _ := os.Executable()
	want := fmt.Sprintf("(PID %d, %s, since ", pid, filepath.Base(self))
	if _, statErr := os.Stat("/proc"); statErr != nil {
		want = fmt.Sprintf("(PID %d, since ", pid)
	}
	if !strings.Contains(fmt.Sprint(err), want) {
		t.Errorf("error %q; want it to say who holds the lock: %s", err, want)
	}
}
