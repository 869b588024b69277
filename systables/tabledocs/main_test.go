package main

import (
	"bytes"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestPageIsUpToDate fails if the catalog changed and the page did not.
func TestPageIsUpToDate(t *testing.T) {
	want, err := os.ReadFile("../../docs/system-tables.md")
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if err := describe(t.Context(), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("run go generate ./systables (-page +catalog):\n%s", diff)
	}
}
