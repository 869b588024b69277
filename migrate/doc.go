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
// # Ups
//
// The Up of a migration is a function of a transaction. What fits in one is
// written as one. Whatever goes over all entries of a kind is made by a builder
// from a function of one entry: [Each] and [Rewrite], [Index], [DropPrefix], and
// [Phases] of several. They work in batches, each a transaction of its own, read
// and change the next ones while one commits, and hold a few batches in memory
// whatever the size of the store. An Up that wants to cut its steps itself calls
// [Tx.Continue].
//
// # What holds
//
// A migration's writes, the new version and the record in the history commit in
// one transaction, synced before Up returns. If it takes several, each step
// commits with a record of the progress, the store stays at the version before
// until the last one, and programs that do not know the migration refuse it
// meanwhile. Small migrations that are pending together share a transaction, each
// with a record of its own. There is no half-applied state: a program that is killed anywhere, or
// whose machine loses its power, runs Up again, and it goes on from the last step.
// Several programs may call Up on one store at the same time; each migration is
// applied once.
//
// # Shared stores
//
// In a store that several processes have open (see [store.Sharer]), one of them
// migrates at a time, and the others wait: as long as Options.Wait says, and in the log
// and to the observer they say for whom. A process that dies is replaced after
// Options.TurnTTL. One that was only paused, or cut off, can commit nothing any more
// once another has taken over, whatever it still believes.
//
// # Waiting
//
// A migration logs how far it is every five seconds; Options.Observer is told of
// each step, with what is done, what is left, and how long that may take. A
// cancelled context stops within a batch, and the error says how far it came.
// Package statushttp serves all this to probes, Prometheus and people, and package
// oteltrace makes spans of it.
// While batches overlap, the garbage collector of the process runs as with GOGC=25,
// which keeps a third of the memory free, and afterwards as before.
//
// # Backups
//
// Options.Backup has the store saved before the first pending migration, into a file
// that also an older program can restore; package backup says how. Without its backup a
// migration does not begin.
//
// # Refusals
//
// A store that is newer than the program, damaged, or not one of kvmigrate's is
// refused before anything is written. All such errors match [ErrRefused] with
// errors.Is; the type says which it is. docs/errors.md has every error, what it means
// and what to do.
//
// # Verifying
//
// [Runner.Verify] compares what a store keeps about its schema with the program's
// migrations, has the program check its own data, and reports all that is wrong
// together, each finding with a code. It writes nothing.
//
// # Keys
//
// A schema named app owns the keys app:schema_version, app:schema_history:…,
// app:schema_progress, app:schema_lock and app:schema_turn. docs/on-disk-format.md has their
// bytes.
package migrate
