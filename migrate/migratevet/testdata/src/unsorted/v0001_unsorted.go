package unsorted

import (
	"encoding/json"
	"maps"
	"slices"
	"sort"
	"strings"

	xmaps "golang.org/x/exp/maps"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/value"
)

type row struct {
	name string
	n    int
}

func put(tx *migrate.Tx, name string) error { return tx.Set(store.Entry{Key: []byte(name)}) }

func elements(tx *migrate.Tx, m map[string]int) (err error) {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	for _, k := range keys { // want `this writes in the order of a map, which differs between runs: sort the slice first, or range over slices.Sorted\(maps.Keys\(m\)\)`
		err = put(tx, k)
	}
	for _, k := range keys[1:] { // want `order of a map`
		err = put(tx, k)
	}
	for i := range keys { // want `order of a map`
		err = put(tx, keys[i])
	}
	for i := range len(keys) { // want `order of a map`
		err = put(tx, keys[i])
	}
	for i := 0; i < len(keys); i++ { // want `order of a map`
		err = put(tx, keys[i])
	}
	for i := 0; i < len(keys) && len(keys) > 1; i++ { // want `order of a map`
		err = put(tx, keys[i])
	}
	for k := range slices.Values(keys) { // want `order of a map`
		err = put(tx, k)
	}
	more := keys
	for _, k := range more { // want `order of a map`
		err = put(tx, k)
	}
	return err
}

func filled(tx *migrate.Tx, m map[string]int) (err error) {
	rows := []row{{"first", 1}}
	for k, n := range m {
		if n > 0 && !slices.Contains(rows, row{k, n}) {
			rows = append(rows, row{strings.ToUpper(k), n})
		}
	}
	rows = append(rows, row{"last", 1})
	for _, r := range rows { // want `order of a map`
		err = put(tx, r.name)
	}

	collected := slices.Collect(maps.Keys(m))
	for _, k := range collected { // want `order of a map`
		err = put(tx, k)
	}
	for _, k := range slices.Collect(maps.Keys(m)) { // want `order of a map`
		err = put(tx, k)
	}
	var added = slices.AppendSeq([]string{}, maps.Keys(m))
	for _, k := range added { // want `order of a map`
		err = put(tx, k)
	}
	seq := maps.Values(m)
	for n := range seq { // want `order of a map`
		err = put(tx, string(rune(n)))
	}
	for _, k := range xmaps.Keys(m) { // want `order of a map`
		err = put(tx, k)
	}
	// Filled from what was filled.
	var lengths []int
	for _, k := range collected {
		lengths = append(lengths, len(k))
	}
	for _, n := range lengths { // want `order of a map`
		err = put(tx, string(rune(n)))
	}
	// Filled from a map that has no name.
	var sizes []string
	for k := range map[string]int{"a": 1, "b": 2} {
		sizes = append(sizes, k)
	}
	for _, k := range sizes { // want `order of a map`
		err = put(tx, k)
	}
	return err
}

func values(tx *migrate.Tx, m map[string]int) error {
	var keys []string
	var text string
	for k := range m {
		keys = append(keys, k)
		text += k
	}
	if err := tx.Set(store.Entry{Value: []byte(strings.Join(keys, ","))}); err != nil { // want `order of a map`
		return err
	}
	if err := tx.Set(store.Entry{Value: []byte("all: " + text)}); err != nil { // want `order of a map`
		return err
	}
	data, err := value.Marshal(map[string]any{"keys": keys})
	if err != nil {
		return err
	}
	e := store.Entry{Key: []byte("a"), Value: data}
	if err := tx.Set(e); err != nil { // want `order of a map`
		return err
	}
	data, err = json.Marshal(keys)
	if err != nil {
		return err
	}
	return tx.Set(store.Entry{Value: data}) // want `order of a map`
}

var literal = func(tx *migrate.Tx, m map[string]int) (err error) {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	for _, k := range keys { // want `order of a map`
		err = put(tx, k)
	}
	return err
}

func sorted(tx *migrate.Tx, m map[string]int) (err error) {
	fill := func() (keys []string) {
		for k := range m {
			keys = append(keys, k)
		}
		return keys
	}
	var keys, more, third, fourth []string
	for k := range m {
		keys = append(keys, k)
		more = append(more, k)
		third = append(third, k)
		fourth = append(fourth, k)
	}
	slices.Sort(keys)
	sort.Sort(sort.Reverse(sort.StringSlice(more)))
	alias := third
	sort.Slice(alias, func(i, j int) bool { return alias[i] < alias[j] })
	sortAll(&fourth)
	for _, list := range [][]string{keys, more, third, fourth} {
		for _, k := range list {
			err = put(tx, k)
		}
	}
	for _, k := range keys {
		err = put(tx, k)
	}
	for _, k := range more {
		err = put(tx, k)
	}
	for _, k := range third {
		err = put(tx, k)
	}
	for i := range fourth {
		err = put(tx, fourth[i])
	}
	for _, k := range sortedOf(fill()) {
		err = put(tx, k)
	}
	data, err := value.Marshal(keys)
	if err != nil {
		return err
	}
	return tx.Set(store.Entry{Value: data})
}

func sortedOf(keys []string) []string { return slices.Sorted(slices.Values(keys)) }
func sortAll(keys *[]string)          { slices.Sort(*keys) }

type byLength struct{ keys []string }

func (b byLength) sort() { slices.Sort(b.keys) }

// Sorted under another name.
func aliases(tx *migrate.Tx, m map[string]int) (err error) {
	var a, b, c, d, e []string
	for k := range m {
		a = append(a, k)
		b = append(b, k)
		c = append(c, k)
		d = append(d, k)
		e = append(e, k)
	}
	sorter := byLength{a}
	sorter.sort()
	for _, list := range [][]string{b} {
		slices.Sort(list)
	}
	lists := [][]string{c}
	lists = append(lists, d)
	for _, list := range lists {
		slices.Sort(list)
		for _, k := range list {
			err = put(tx, k)
		}
	}
	part := e[:]
	slices.Sort(part)
	for _, k := range a {
		err = put(tx, k)
	}
	for _, k := range b {
		err = put(tx, k)
	}
	for _, k := range c {
		err = put(tx, k)
	}
	for _, k := range d {
		err = put(tx, k)
	}
	for _, k := range e {
		err = put(tx, k)
	}
	return err
}

type names []string

func (n names) sort() { slices.Sort(n) }

func fine(tx *migrate.Tx, m map[string]int) (err error) {
	for _, k := range slices.Sorted(maps.Keys(m)) {
		err = put(tx, k)
	}
	var own names
	for k := range maps.Keys(m) {
		own = append(own, k)
	}
	own.sort()
	for _, k := range own {
		err = put(tx, k)
	}

	var keys []string
	total := 0
	groups := map[string][]string{}
	for k, n := range m {
		keys = append(keys, k)
		total += n
		groups[k] = append(groups[k], k)
		var letters []string
		for _, r := range k {
			letters = append(letters, string(r))
		}
		_ = letters
	}
	// Neither the number nor what does not look at the elements has an order.
	for i := range keys {
		err = put(tx, string(rune(i)))
	}
	for range len(keys) {
		err = put(tx, "a")
	}
	if err := tx.Set(store.Entry{Value: []byte{byte(len(keys)), byte(total)}}); err != nil {
		return err
	}
	// Nor what only reads.
	for _, k := range keys {
		if _, err := tx.Get([]byte(k)); err != nil {
			return err
		}
	}
	// A set is none.
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := tx.Set(store.Entry{Value: data}); err != nil {
		return err
	}

	var pads []string
	for range m {
		pads = append(pads, "pad")
	}
	for _, pad := range pads {
		err = put(tx, pad)
	}
	pads = nil
	for k := range map[string]int{"a": 1, "b": 2} {
		pads = append(pads, k)
	}
	slices.Sort(pads)
	for _, pad := range pads {
		err = put(tx, pad)
	}
	pads = nil
	for _, k := range []string{"a", "b"} {
		pads = append(pads, k)
	}
	for _, pad := range pads {
		err = put(tx, pad)
	}
	keys = []string{"a", "b"}
	for _, k := range keys {
		err = put(tx, k)
	}

	var later []string
	order := func() { slices.Sort(later) }
	for k := range m {
		later = append(later, k)
	}
	order()
	for _, k := range later {
		err = put(tx, k)
	}
	return err
}
