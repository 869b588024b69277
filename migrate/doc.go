// Package migrate runs versioned schema migrations on a key-value store.
//
// # Use
//
// A program registers its migrations, one a file, in init functions of a package
// of its own, and calls [Up] once at start-up, before anything else touches the
// store:
//
//	st, err := badgerstore.New(db)
//	…
//	report, err := migrate.Up(ctx, st, migrate.Options{Schema: "app"})
//
// Up reads the version the store is at, runs the pending migrations in order and
// refuses a store that the program does not understand. When nothing is pending
// it costs three point reads in one snapshot and writes nothing.
//
// # What holds
//
// A migration's writes, the new version and the record in the history commit in
// one transaction, synced before Up returns. There is no half-applied state: a
// program that is killed anywhere runs Up again. Several programs may call Up on
// one store at the same time; each migration is applied once.
//
// # Refusals
//
// A store that is newer than the program, damaged, or not one of kvmigrate's is
// refused before anything is written. All such errors match [ErrRefused] with
// errors.Is; the type says which it is.
//
// # Keys
//
// A schema named app owns the keys app:schema_version, app:schema_history:…,
// app:schema_progress and app:schema_lock. docs/on-disk-format.md has their
// bytes.
package migrate
