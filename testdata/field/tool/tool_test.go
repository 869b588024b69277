package tool

import "testing"

func TestAccountBytes(t *testing.T) {
	value, err := accountValue(500_000)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(accountKey(500_000)) + len(value); n != AccountBytes {
		t.Errorf("an account has %d bytes; AccountBytes = %d", n, AccountBytes)
	}
}
