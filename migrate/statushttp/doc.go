// Package statushttp shows over HTTP how far the migrations of a schema are: to
// people, to probes, to programs and to Prometheus.
//
//	h, err := statushttp.New(st, migrate.Options{Schema: "notes"})
//	…
//	http.Handle("/", h)
//	go http.ListenAndServe(addr, nil)
//	report, err := h.Up(ctx) // instead of migrate.Up
//
// Below another path it needs http.StripPrefix, and a slash at the end:
//
//	http.Handle("/schema/", http.StripPrefix("/schema", h))
//
// # Paths
//
//	/         a page for people, which keeps itself up to date
//	/healthz  200 as long as the process answers, also while it migrates for hours
//	/readyz   200 once the program may use the store; before that, and after a
//	          failure, 503 and a line that says why. A program that goes on with an
//	          earlier version when it is held back says so by Handler.Joined, and is
//	          ready meanwhile
//	/schema   JSON, see below
//	/metrics  metrics for Prometheus, all of them named kvmigrate_…
//
// All of them answer GET and HEAD alone and change nothing. They show no keys and no
// values, but the text of errors: what a migration puts into its errors is seen
// here as it is in the log. There is no access control; put it in front, or listen
// on an address that only operators reach.
//
// However many clients there are, migrations do not wait for them, and a client
// does not wait for the store: a request reads what the last event said, in memory.
//
// # JSON
//
// /schema has these keys, which keep their names and meanings; new ones may join
// them; docs/schemas/statushttp.json in the repository is a JSON Schema of it. Times are RFC 3339 in UTC.
//
//	{schema, program?, state, reason, version, target, latest, read_only?,
//	 pending, pending_total, running?, history, history_total,
//	 started?, ended?, error?}
//
// state is one of
//
//	waiting  Up was not called yet
//	running  Up is at work
//	ready    the schema is current, or newer and the program may use it all the same
//	pending  Up was told to stop at an earlier version, and did, or nodes hold it
//	         back: see migrate.ErrHeldBack
//	stopped  the context of Up ended; the next Up goes on
//	failed   a migration failed, or something else went wrong
//	refused  the program must not touch the store: see migrate.ErrRefused
//
// and reason says it for people. version is the store's, null while it is not known;
// target is what the last Up goes to and latest what the program knows. read_only
// says that the program must not write the store. pending are the next 100
// migrations, {version, name, description, unreleased?}, of pending_total. history
// are the last 100 of history_total, oldest first, as kvmigrate history --json
// prints them: {version, name, description, fingerprint, started, finished,
// transactions, keys_written, keys_deleted, program, origin?, readable_from?,
// writable_from?, unreleased?, size_before?, size_after?}. running is the
// migration at work: {version, name, description, backing_up?, started, phase,
// phases, steps, done, total, bytes, rate, elapsed_ns, eta_ns, text}; done and total
// are entries of the phase, total is 0 while it is not known, and text says it for
// people. backing_up says that it is the backup from before that migration.
// started and ended are of the last Up; error is the text of its error.
package statushttp
