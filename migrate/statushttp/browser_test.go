package statushttp_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrate/statushttp"
	"github.com/kvmigrate/kvmigrate/store"
)

var screenshots = flag.String("screenshots", "", "write what the browser shows to this `folder`")

// A browser is a tab in a headless Chromium. It collects what the page complains of
// and asks for.
type browser struct {
	context.Context

	mu       sync.Mutex
	problems []string
	requests []string
}

// openBrowser starts a browser. Without one the test is skipped, but never in CI.
func openBrowser(t *testing.T) *browser {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" && os.Getenv("CI") == "" {
		t.Skip("there is no Chromium here")
	}
	allocator, stop := chromedp.NewExecAllocator(t.Context(),
		chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()), chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.NoFirstRun, chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true), chromedp.WSURLReadTimeout(time.Minute))
	ctx, cancel := chromedp.NewContext(allocator)
	b := &browser{Context: ctx}
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		cancel()
		stop()
	})
	b.do(t) // which starts it
	err := chromedp.Listen(ctx, func(event any) {
		b.mu.Lock()
		defer b.mu.Unlock()
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			b.problems = append(b.problems, e.ExceptionDetails.Text)
		case *log.EventEntryAdded:
			b.problems = append(b.problems, e.Entry.Text)
		case *network.EventRequestWillBeSent:
			b.requests = append(b.requests, e.Request.URL)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	call(t, b, log.Enable, cdp.Empty{})
	call(t, b, network.Enable, network.EnableParams{})
	return b
}

// do runs actions that return nothing.
func (b *browser) do(t *testing.T, actions ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(b, actions...); err != nil {
		t.Fatal(err)
	}
}

// run runs an action and returns its result.
func run[T any](t *testing.T, b *browser, action chromedp.Action[T]) T {
	t.Helper()
	result, err := chromedp.Run(b, action)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// call sends a command of the protocol.
func call[P, R any](t *testing.T, b *browser, command cdp.Command[P, R], params P) R {
	t.Helper()
	result, err := chromedp.Call(b, command, params)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// await waits until a condition in JavaScript holds.
func await(condition string) chromedp.Action[chromedp.Void] {
	return chromedp.Poll[chromedp.Void](condition, chromedp.WithPollingTimeout(0), chromedp.WithPollingInterval(20*time.Millisecond))
}

// shows waits until the page says a state, in an element that is there already.
func shows(state string) chromedp.Action[chromedp.Void] {
	return await(fmt.Sprintf(`document.querySelector("header .state")?.textContent === %q`, state))
}

// evaluate runs a statement in JavaScript.
func evaluate(statement string) chromedp.Action[chromedp.Void] {
	return chromedp.Evaluate[chromedp.Void](statement + "; undefined")
}

// fits fails if the page is wider than the screen, and takes a picture for people.
func (b *browser) fits(t *testing.T, name string) {
	t.Helper()
	for _, width := range []int64{390, 1280} {
		for _, scheme := range []string{"light", "dark"} {
			b.do(t, chromedp.EmulateViewport(width, 844))
			call(t, b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
				Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
			})
			if scroll := run(t, b, chromedp.Evaluate[int64](`document.documentElement.scrollWidth`)); scroll > width {
				t.Errorf("%s: the page is %d pixels wide on a screen of %d", name, scroll, width)
			}
			if *screenshots != "" {
				file := filepath.Join(*screenshots, fmt.Sprintf("%s-%d-%s.png", name, width, scheme))
				if err := os.WriteFile(file, run(t, b, chromedp.FullScreenshot(100)), 0o600); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

// progress returns what a screen reader is told of the bar.
func (b *browser) progress(t *testing.T) (name, value string) {
	t.Helper()
	for _, n := range call(t, b, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{}).Nodes {
		if n.Role == nil || axText(t, n.Role) != "progressIndicator" && axText(t, n.Role) != "progressbar" {
			continue
		}
		name = axText(t, n.Name)
		if n.Value != nil {
			value = axText(t, n.Value)
		}
	}
	return name, value
}

func axText(t *testing.T, v *accessibility.Value) string {
	t.Helper()
	var out any
	if err := json.Unmarshal(v.Value, &out); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(out)
}

// clean fails if the page complained, or asked another host for something.
func (b *browser) clean(t *testing.T, url string) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.problems {
		t.Errorf("the page complains: %s", p)
	}
	for _, r := range b.requests {
		if !strings.HasPrefix(r, url) {
			t.Errorf("the page asks for %s", r)
		}
	}
	if len(b.requests) < 3 {
		t.Errorf("the page asked for %v only: the test looks at the wrong thing", b.requests)
	}
}

// ladder is one of a program with a past: seven versions, a long migration that waits
// twice, and some to come.
func ladder(waits ...*held) []migrate.Migration {
	row := migrate.Each([]byte("note/"), func(ctx context.Context, tx *migrate.Tx, e store.Entry) error {
		for _, w := range waits {
			if string(e.Key) == w.at {
				return w.row(ctx, tx, e)
			}
		}
		return tx.Set(e)
	})
	return []migrate.Migration{
		{Name: "first_note", Description: "writing the first note", Up: nothing},
		{Name: "add_titles", Description: "giving each note a title", Up: nothing},
		{Name: "index_by_tag", Description: "indexing notes by tag", Up: nothing},
		{Name: "drop_drafts", Description: "dropping drafts, which nobody used", Up: nothing},
		{Name: "split_body", Description: "moving bodies to keys of their own", Up: nothing},
		{Name: "add_owner", Description: "giving each note an owner", Up: nothing},
		{Name: "compress_bodies", Description: "compressing bodies", Up: nothing},
		{Name: "encrypt_bodies", Description: "encrypting bodies", Up: row},
		{Name: "add_revisions", Description: "keeping revisions", Up: nothing},
		{Name: "index_by_owner", Description: "indexing notes by owner", Up: nothing},
	}
}

// TestPage: a browser shows a run from its beginning to its end without loading the
// page again, the bar moves, and a screen reader is told.
func TestPage(t *testing.T) {
	b := openBrowser(t)
	st := narrow{openStore(t), 400} // batches of a hundred
	load(t, st, 3000)
	first, second := hold(1250), hold(2450)
	h, url := serve(t, st, options(t, ladder(first, second)...))
	b.do(t, chromedp.Navigate(url), shows("Migrations have not begun"), evaluate(`window.same = true`))
	b.fits(t, "waiting")

	end := first.start(t, h.Up)
	bar := `document.querySelector("progress")`
	b.do(t, shows("Migrating"), await(bar+`.value === 1200`), evaluate(`window.bar = `+bar))
	b.fits(t, "running")
	if name, value := b.progress(t); name != "v0008_encrypt_bodies" || value != "1200" {
		t.Errorf("a screen reader is told %q %q; want the migration and 1200", name, value)
	}
	close(first.onwards)
	b.do(t, await(`document.querySelector("progress") === window.bar && window.bar.value === 2400`))

	close(second.onwards)
	if _, err := end(); err != nil {
		t.Fatal(err)
	}
	b.do(t, shows("Up to date"), await(`document.title === "Up to date · notes schema"`))
	if !run(t, b, chromedp.Evaluate[bool](`window.same === true`)) {
		t.Error("the page was loaded again")
	}
	b.fits(t, "ready")
	b.clean(t, url)
}

// TestPageOfFailure: an error, however long, and who was stopped by it.
func TestPageOfFailure(t *testing.T) {
	b := openBrowser(t)
	long := fmt.Errorf("decode note: %s: unexpected end", strings.Repeat("x", 200))
	broken := ladder()
	broken[7].Up = func(context.Context, *migrate.Tx) error { return long }
	h, url := serve(t, openStore(t), options(t, broken...))
	if _, err := h.Up(t.Context()); !errors.Is(err, long) {
		t.Fatalf("Up = %v, want its error", err)
	}
	b.do(t, chromedp.Navigate(url), shows("Failed"))
	if text := run(t, b, chromedp.Text(`[role=alert]`)); !strings.Contains(text, "unexpected end; the store is unchanged at v7") {
		t.Errorf("the page says %q", text)
	}
	b.fits(t, "failed")
	b.clean(t, url)
}

// TestPageWithoutScript: the page loads itself again.
func TestPageWithoutScript(t *testing.T) {
	b := openBrowser(t)
	st := narrow{openStore(t), 400}
	load(t, st, 1000)
	wait := hold(550)
	h, url := serve(t, st, options(t, ladder(wait)...))
	end := wait.start(t, h.Up)
	call(t, b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	b.do(t, chromedp.Navigate(url), chromedp.WaitVisible("progress"))
	close(wait.onwards)
	if _, err := end(); err != nil {
		t.Fatal(err)
	}
	b.do(t, chromedp.WaitVisible(".state.ready"))
}

// TestPageOfTheDead: when the program has ended, the page says so.
func TestPageOfTheDead(t *testing.T) {
	b := openBrowser(t)
	h, err := statushttp.New(openStore(t), options(t, ladder()...))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.StripPrefix("/below", h)) // and it works there
	defer server.Close()
	b.do(t, chromedp.Navigate(server.URL+"/below/"), shows("Up to date"))
	server.CloseClientConnections()
	server.Close()
	b.do(t, chromedp.WaitVisible("#contact"))
	b.fits(t, "gone")
}
