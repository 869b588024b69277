// Package migrations is the history of the system schema: one file a version,
// each registering itself. Importing the package is all that a program does with
// it.
//
// NAME=add_thing go generate ./migrations writes the file of the next version.
//
// A released file is never edited. It holds copies of every type that it
// touches, because the types in systables go on changing and history must not.
package migrations

//go:generate go run github.com/kvmigrate/kvmigrate/migrate/cmd/newmigration -golden ../testdata/golden

// Schema is the name of the schema that these migrations make.
const Schema = "system"
