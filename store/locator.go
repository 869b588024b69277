package store

// A Locator is a Store with a directory of its own on this machine, in which others
// may leave files beside the store's. A Store need not be one.
type Locator interface {
	// Dir returns the directory, "" if there is none, as for a store in memory.
	Dir() string
}
