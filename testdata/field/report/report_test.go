package report_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"example.com/field/report"
)

func TestFill(t *testing.T) {
	const page = "# Title\n\n<!-- generated: a -->\nold\n<!-- end -->\n\nProse.\n\n<!-- generated: b -->\n<!-- end -->\n"
	tests := []struct {
		name, page string
		sections   map[string]string
		want, err  string
	}{
		{
			name: "filled", page: page, sections: map[string]string{"a": "A\n", "b": "B\n"},
			want: "# Title\n\n<!-- generated: a -->\nA\n\n<!-- end -->\n\nProse.\n\n<!-- generated: b -->\nB\n\n<!-- end -->\n",
		},
		{name: "no such section", page: page, sections: map[string]string{"a": "A\n"}, err: `no section "b"`},
		{name: "no place", page: page, sections: map[string]string{"a": "", "b": "", "c": ""}, err: "no place for c"},
		{name: "two places", page: page + page, sections: map[string]string{"a": "", "b": ""}, err: "two places"},
		{name: "no end", page: "<!-- generated: a -->\n", sections: map[string]string{"a": ""}, err: "does not end"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := report.Fill(test.page, test.sections)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Fatalf("error = %v, want one that says %q", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("page (-want +got):\n%s", diff)
			}
			again, err := report.Fill(got, test.sections)
			if err != nil || again != got {
				t.Errorf("filled again it is another: %v\n%s", err, cmp.Diff(got, again))
			}
		})
	}
}
