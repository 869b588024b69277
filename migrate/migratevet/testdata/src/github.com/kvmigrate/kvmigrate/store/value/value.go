// Package value is as much of the real one as the analyzer looks at.
package value

func Marshal(v any) ([]byte, error) { return nil, nil }
