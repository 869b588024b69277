package tool

import (
	"encoding/json"
	"fmt"
)

// An account is a row of some 200 bytes.
type account struct {
	ID      int    `json:"id"`
	Name    string `json:"name"`
	Email   string `json:"email"`
	Address string `json:"address"`
	Created int64  `json:"created"`
	Updated int64  `json:"updated"`
	Logins  *int   `json:"logins,omitempty"` // what the migration adds
	Pad     string `json:"pad,omitempty"`    // what Grow adds
}

func accountKey(i int) string { return fmt.Sprintf("acct/%015d", i) }

// accountValue returns account i before any migration.
func accountValue(i int) ([]byte, error) {
	return json.Marshal(account{
		ID:      i,
		Name:    fmt.Sprintf("user number %09d", i),
		Email:   fmt.Sprintf("user.%09d@mail.example.com", i),
		Address: fmt.Sprintf("%05d Long Street, Some District, Apartment %04d, 12345 City", i%100000, i%10000),
		Created: 1736942400000 + int64(i),
		Updated: 1736942400000 + int64(i)*3,
	})
}

// AddLogins is the change of an account that is measured: decode, add a field,
// encode. It leaves an account that has the field alone, because some tools call it
// again for an account that it has changed.
func AddLogins(value []byte) ([]byte, error) {
	return edit(value, func(a *account) {
		if a.Logins == nil {
			a.Logins = new(int)
		}
	})
}

// addLoginsSQL is AddLogins in SQL.
const addLoginsSQL = `UPDATE accounts SET value = json_set(value, '$.logins', 0)`

// CountLogins is a change that shows how often it was made.
func CountLogins(value []byte) ([]byte, error) {
	return edit(value, func(a *account) {
		if a.Logins == nil {
			a.Logins = new(int)
		}
		*a.Logins++
	})
}

// Grow is CountLogins, and adds a value of size bytes to the account.
func Grow(size int) func(value []byte) ([]byte, error) {
	return func(value []byte) ([]byte, error) {
		return edit(value, func(a *account) {
			if a.Logins == nil {
				a.Logins = new(int)
			}
			*a.Logins++
			a.Pad = incompressible(a.ID, size)
		})
	}
}

// incompressible returns size characters that follow from seed.
func incompressible(seed, size int) string {
	out := make([]byte, size)
	x := uint64(seed)*0x9e3779b97f4a7c15 + 1
	for i := range out {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		out[i] = 'A' + byte(x>>32%58)
		if out[i] == '\\' {
			out[i] = '-'
		}
	}
	return string(out)
}

func edit(value []byte, change func(*account)) ([]byte, error) {
	var a account
	if err := json.Unmarshal(value, &a); err != nil {
		return nil, err
	}
	change(&a)
	return json.Marshal(a)
}

// Logins returns how often CountLogins changed an account, and whether it was changed
// at all.
func Logins(value []byte) (n int, changed bool, err error) {
	var a account
	if err := json.Unmarshal(value, &a); err != nil {
		return 0, false, err
	}
	if a.Logins == nil {
		return 0, false, nil
	}
	return *a.Logins, true, nil
}

// AccountBytes is the size of an account's key and value before any migration, as
// that of all accounts nearly is.
const AccountBytes = 227
