package statushttp_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrate/statushttp"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
)

// Example serves how far the migrations are, and runs them.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "notes-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	st, err := badgerstore.Open(ctx, dir, badgerstore.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer st.Close()

	h, err := statushttp.New(st, migrate.Options{
		Schema: "notes", Logger: slog.New(slog.DiscardHandler),
		Registry: migrate.NewRegistry(migrate.Migration{Version: 1, Name: "first_note", Up: nothing}),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	server := httptest.NewServer(h) // or http.Handle("/", h)
	defer server.Close()
	show := func() {
		answer, err := http.Get(server.URL + "/readyz")
		if err != nil {
			fmt.Println(err)
			return
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		fmt.Printf("%d %s%v\n", answer.StatusCode, text, err)
	}
	show()
	report, err := h.Up(ctx)
	fmt.Println(report.To, err)
	show()
	// Output:
	// 503 migrations have not begun
	// <nil>
	// 1 <nil>
	// 200 notes schema is at v1
	// <nil>
}
