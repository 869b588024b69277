// Package systables is the typed view of the system tables: users, namespaces,
// tables, storages, live queries, jobs, audit logs and metrics.
//
// # Start-up
//
// There is no Open here: the start-up of a program is sysdb.Open, of package sysdb. It
// opens the store, initializes it, starts the job manager of package jobs, seeds what has
// to be there, and has one Close for all of it.
//
// [Initialize] is the part of it that brings the tables of a store to the version that
// this program knows, or refuses the store. A program that does without jobs calls it
// before any other use.
//
// # Rows
//
// Each table is a package variable, for example [Users]. Its methods work inside
// a transaction of the caller, so that several changes commit together:
//
//	err := store.Update(ctx, st, func(tx store.Txn) error {
//		return systables.Users.Insert(tx, user)
//	})
//
// A row is stored under the table's partition and its primary key, as a
// deterministic CBOR map of its columns in which a null column is absent. The
// columns are those of the newest version; package migrations has its own copies
// of older ones. docs/system-tables.md lists them, and the indexes.
package systables

import (
	"context"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrations"
	"github.com/kvmigrate/kvmigrate/store"
)

//go:generate go run github.com/kvmigrate/kvmigrate/systables/tabledocs ../docs/system-tables.md

// Initialize creates or upgrades the system tables of st to the newest version.
// A store with data and no version counts as one from before versions were
// stored, and is upgraded from v0. The errors are those of
// [migrate.Runner.UpTo]; a newer store is a [*migrate.DowngradeError]. It may be
// called concurrently, also by several processes.
func Initialize(ctx context.Context, st store.Store) (migrate.Report, error) {
	return migrate.Up(ctx, st, migrate.Options{
		Registry:         migrate.DefaultRegistry(),
		Schema:           migrations.Schema,
		AllowUnversioned: true,
	})
}
