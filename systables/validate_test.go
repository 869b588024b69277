package systables_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-multierror"

	"github.com/kvmigrate/kvmigrate/systables"
)

// user returns a row of system.users that is as it must be.
func user() systables.User {
	return systables.User{
		ID: "u1", Username: "ada", PasswordHash: "secret", Role: "dba", AuthType: "password", StorageMode: "table",
	}
}

// faultsOf returns the faults of an error of Validate, each as its column and code.
// None may tell a value.
func faultsOf(t *testing.T, err error) []string {
	t.Helper()
	if err == nil {
		return nil
	}
	all, ok := errors.AsType[*multierror.Error](err)
	if !ok {
		t.Fatalf("error %T is no *multierror.Error: %v", err, err)
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("the error tells a value: %v", err)
	}
	var faults []string
	for _, err := range all.Errors {
		e, ok := errors.AsType[*systables.ColumnError](err)
		if !ok || !errors.Is(err, systables.ErrInvalid) || !strings.HasPrefix(e.Table, "system.") {
			t.Errorf("error %T %v: want a *ColumnError of a system table that matches ErrInvalid", err, err)
			continue
		}
		faults = append(faults, e.Column+" "+string(e.Fault))
	}
	return faults
}

func TestValidate(t *testing.T) {
	const null, secret = "null", "secret"
	users, jobs := systables.Users.Definition(), systables.Jobs.Definition()
	metrics := systables.Metrics.Definition()
	tests := map[string]struct {
		definition systables.Definition
		change     map[string]any // null: the column is left out
		key        string
		want       []string
	}{
		"valid user":            {users, nil, "u1", nil},
		"valid job":             {jobs, nil, "u1", nil},
		"valid metric":          {metrics, nil, "u1", nil},
		"a nullable column set": {users, map[string]any{"email": "a@b", "last_seen": -1, "locked_until": 1 << 62}, "u1", nil},

		"null":                      {users, map[string]any{"username": null}, "u1", []string{"username row_null"}},
		"null as a value":           {users, map[string]any{"username": nil}, "u1", []string{"username row_null"}},
		"null stored":               {users, map[string]any{"email": nil}, "u1", []string{"email row_type"}},
		"number for a text":         {users, map[string]any{"username": 7}, "u1", []string{"username row_type"}},
		"bytes for a text":          {users, map[string]any{"email": []byte(secret)}, "u1", []string{"email row_type"}},
		"text that is not UTF-8":    {users, map[string]any{"email": "\xff"}, "u1", []string{"email row_type"}},
		"text for a timestamp":      {users, map[string]any{"created_at": secret}, "u1", []string{"created_at row_type"}},
		"float for a timestamp":     {users, map[string]any{"created_at": 1.5}, "u1", []string{"created_at row_type"}},
		"timestamp of 65 bits":      {users, map[string]any{"created_at": uint64(1 << 63)}, "u1", []string{"created_at row_type"}},
		"int of 33 bits":            {users, map[string]any{"failed_login_attempts": 1 << 31}, "u1", []string{"failed_login_attempts row_type"}},
		"boolean for an int":        {users, map[string]any{"failed_login_attempts": true}, "u1", []string{"failed_login_attempts row_type"}},
		"list for a bigint":         {jobs, map[string]any{"memory_used": []int{1}}, "u1", []string{"memory_used row_type"}},
		"integer for a double":      {metrics, map[string]any{"value": 1}, "u1", []string{"value row_type"}},
		"text for a double":         {metrics, map[string]any{"value": secret}, "u1", []string{"value row_type"}},
		"number for JSON":           {metrics, map[string]any{"labels": 1}, "u1", []string{"labels row_type"}},
		"text that is no JSON":      {metrics, map[string]any{"labels": secret}, "u1", []string{"labels row_value"}},
		"an empty key":              {users, map[string]any{"user_id": ""}, "", []string{"user_id row_value"}},
		"an empty username":         {users, map[string]any{"username": ""}, "u1", []string{"username row_value"}},
		"an empty job type":         {jobs, map[string]any{"job_type": ""}, "u1", []string{"job_type row_value"}},
		"JSON in a text":            {jobs, map[string]any{"parameters": " [1, {}] "}, "u1", nil},
		"no JSON in a text":         {jobs, map[string]any{"parameters": secret + "{"}, "u1", []string{"parameters row_value"}},
		"an empty text for JSON":    {users, map[string]any{"auth_data": ""}, "u1", []string{"auth_data row_value"}},
		"number for JSON in a text": {users, map[string]any{"auth_data": 1}, "u1", []string{"auth_data row_type"}},
		"credentials are encrypted": {systables.Storages.Definition(), map[string]any{"credentials": secret}, "u1", nil},
		"none of the roles":         {users, map[string]any{"role": secret}, "u1", []string{"role row_value"}},
		"a role in other letters":   {users, map[string]any{"role": "DBA"}, "u1", []string{"role row_value"}},
		"none of the statuses":      {jobs, map[string]any{"status": ""}, "u1", []string{"status row_value"}},
		"an unknown column":         {users, map[string]any{"secret": 1, "a": 2}, "u1", []string{"a row_undeclared", "secret row_undeclared"}},
		"another key":               {users, nil, "u2", []string{"user_id row_key"}},
		"a key of the wrong type":   {users, map[string]any{"user_id": 1}, "u1", []string{"user_id row_type"}},
		"a key that is not there":   {users, map[string]any{"user_id": null}, "u1", []string{"user_id row_null"}},
		"everything wrong at once":  {users, map[string]any{"username": null, "role": secret, "created_at": secret, "x": 1}, "u2", []string{"user_id row_key", "username row_null", "role row_value", "created_at row_type", "x row_undeclared"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			row := map[string]any{}
			for _, c := range tt.definition.Columns {
				if !c.Nullable {
					row[c.Name] = map[string]any{"Text": "u1", "Int": 1, "BigInt": 1, "Timestamp": 1, "Double": 0.5}[c.Type]
				}
				if c.Values != nil {
					row[c.Name] = c.Values[0]
				}
			}
			for column, v := range tt.change {
				row[column] = v
				if v == null {
					delete(row, column)
				}
			}
			got := faultsOf(t, tt.definition.Validate([]byte(tt.key), encode(t, row)))
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
		})
	}
	for _, data := range []string{"", "\xff", "\xf6", "\x07", "\xa0\xa0", "\xa1\x01\x02", "\xa2\x61a\x01\x61a\x02"} {
		if diff := cmp.Diff([]string{" row_malformed"}, faultsOf(t, users.Validate([]byte("u1"), []byte(data)))); diff != "" {
			t.Errorf("row %x (-want +got):\n%s", data, diff)
		}
	}
}

func TestValidateTyped(t *testing.T) {
	if err := systables.Users.Validate(user()); err != nil {
		t.Error(err)
	}
	bad := user()
	bad.Role, bad.Username = "secret", "\xff"
	if diff := cmp.Diff([]string{"username row_type", "role row_value"}, faultsOf(t, systables.Users.Validate(bad))); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
}

// TestReasons: what is wrong is said in words that the Go type of a field does not
// contradict.
func TestReasons(t *testing.T) {
	bad := user()
	bad.Username, bad.StorageMode = "\xff", ""
	const want = "system.users: column username is not UTF-8; system.users: column storage_mode is none of table, region"
	if err := systables.Users.Validate(bad); err == nil || err.Error() != want {
		t.Errorf("Validate: %v, want %s", err, want)
	}
}
