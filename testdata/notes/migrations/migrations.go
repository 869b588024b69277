// Package migrations is the history of the notes schema: one file a version, each
// registering itself.
//
// NAME=add_thing go generate ./migrations writes the file of the next version. A
// released file is never edited; it has copies of the types and keys that it
// works on, and imports nothing of this program.
package migrations

//go:generate go run github.com/kvmigrate/kvmigrate/migrate/cmd/newmigration

// Schema is the name of the schema that these migrations make.
const Schema = "notes"
