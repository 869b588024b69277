// Package cluster keeps several processes that use one store from being left behind by
// an upgrade of its schema.
//
// Each of them is a node: it says which versions of the schema its program supports,
// and gives signs of life. migrate.Up does not bring a store that is shared (see
// [store.Sharer]) to a version that a live node does not support, and a node that does
// not support the store's version cannot join. So a cluster is upgraded node by node:
// the version goes up when the last old one is gone.
//
// # Start-up
//
// A node migrates first, then joins, and works through the store that the [Member] has:
//
//	report, err := migrate.Up(ctx, st, migrate.Options{})
//	if err != nil && !errors.Is(err, migrate.ErrHeldBack) {
//		return err
//	}
//	member, err := cluster.Join(ctx, st, cluster.Options{Min: 5, Max: 6, Program: program})
//	if err != nil {
//		return err
//	}
//	defer member.Leave(ctx)
//	serve(member.Store())
//
// A program that supports two versions asks each transaction which one it has, by
// [Version]: that never changes within a transaction. One that was held back calls
// migrate.Up now and then, until that returns nil.
//
// # While migrations run
//
// From the moment at which it is certain that all nodes can follow, until the new
// version is there, nodes can neither read nor write: they get an [*UpgradingError].
// For a migration of one transaction these are some round trips to the store;
// [store.Update] waits for them. A transaction that was open at that moment conflicts.
//
// # Dead nodes
//
// A node that gives no sign of life for its TTL holds back nobody. If it was only
// paused, it finds out with its next transaction or sign of life: it is admitted again
// as long as it supports the version, and writes nothing otherwise.
//
// docs/clustering.md has the protocol, and why it is safe; docs/on-disk-format.md the
// records.
package cluster
