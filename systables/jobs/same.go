package jobs

import (
	"cmp"
	"encoding/json"
	"math/big"
	"reflect"
	"strings"
)

// sameJSON reports whether a and b are the same JSON value, however it is written.
// Numbers are compared in full, not as floating-point ones.
func sameJSON(a, b string) bool {
	if a == b {
		return true
	}
	x, errX := jsonValue(a)
	y, errY := jsonValue(b)
	return errX == nil && errY == nil && reflect.DeepEqual(x, y)
}

func jsonValue(text string) (v any, err error) {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	err = d.Decode(&v)
	return normalize(v), err
}

// normalize makes equal numbers in v equal texts.
func normalize(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name := range v {
			v[name] = normalize(v[name])
		}
	case []any:
		for i := range v {
			v[i] = normalize(v[i])
		}
	case json.Number:
		return normalNumber(string(v))
	}
	return v
}

// normalNumber writes a number without zeros at its ends, as 15e-1 for 1.50.
func normalNumber(text string) json.Number {
	text, negative := strings.CutPrefix(text, "-")
	mantissa, power, _ := strings.Cut(strings.ToLower(text), "e")
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits := strings.TrimLeft(whole+fraction, "0")
	significant := strings.TrimRight(digits, "0")
	if significant == "" {
		return "0"
	}
	exponent, _ := new(big.Int).SetString(cmp.Or(power, "0"), 10) // of a number that was decoded
	exponent.Add(exponent, big.NewInt(int64(len(digits)-len(significant)-len(fraction))))
	sign := ""
	if negative {
		sign = "-"
	}
	return json.Number(sign + significant + "e" + exponent.String())
}
