# make demo   the main job on a store in a temporary directory
# make test   all tests
# make bench  what docs/performance.md holds it to, measured; BENCH=-quick for a try
# make bench-report  the same work by other tools, and docs/field.md and docs/comparison.md of it
# make check  everything that must hold before a commit
# make soak   the kills, power losses and simulations of make test, by the hundreds

# The race detector needs a C compiler; make check insists on it.
RACE := $(if $(filter 1,$(shell go env CGO_ENABLED)),-race)

# A program with the race detector sleeps a second before it exits, by default, and the
# tests start hundreds of them. What it reports, and its exit code, do not wait for that.
export GORACE ?= atexit_sleep_ms=0

# A program of its own module, as a user has.
NOTES := testdata/notes

# The store over etcd is a module of its own. Its tests start etcd servers.
ETCD := store/etcdstore

# kvmigrate beside other tools, a module of its own. Its tests need no C compiler, and
# read documents outside of it, which the cache of tests does not look at;
# bench-report has SQLite in C take part if there is a C compiler.
FIELD := testdata/field
MATTN := $(if $(filter 1,$(shell go env CGO_ENABLED)),-tags mattn)

.PHONY: demo test bench bench-report check soak lint tidy generated

demo:
	@go run ./testdata/demo

test:
	go test -timeout 30m $(RACE) ./...
	cd $(NOTES) && go test $(RACE) ./...
	cd $(ETCD) && go test $(RACE) ./...
	cd $(FIELD) && go test -count=1 ./...

bench:
	@go run ./testdata/bench $(BENCH)

# NOTE is what readers of the results must know, such as that the machine was busy.
bench-report:
	dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && cd $(FIELD) && go build $(MATTN) -o "$$dir/field" . && \
		"$$dir/field" measure -note "$(NOTE)" -o results/bench.txt && "$$dir/field" disasters -o results/disasters.json && \
		"$$dir/field" report

check: lint tidy generated
	go test -timeout 30m -race ./...
	cd $(NOTES) && go test -race ./...
	cd $(ETCD) && go test -race ./...
	cd $(FIELD) && go test -count=1 ./...

soak:
	KVMIGRATE_SOAK=1 go test -count=1 -timeout 2h -run 'Kill|PowerLoss|Simulation$$' ./migrate ./migrate/cluster ./migrate/backup ./migrate/transfer ./store/badgerstore ./systables/jobs
	cd $(ETCD) && KVMIGRATE_SOAK=1 go test -count=1 -timeout 2h -run Kill . ./cmd/kvmigrate

lint:
	@test -z "$$(gofmt -l docs store migrate migrations systables testdata)" || { gofmt -l docs store migrate migrations systables testdata; exit 1; }
	go vet ./... ./testdata/demo ./testdata/bench ./testdata/picture
	dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && go build -o "$$dir/migratevet" ./migrate/cmd/migratevet && \
		go vet -vettool="$$dir/migratevet" -live github.com/kvmigrate/kvmigrate/systables ./migrations && \
		cd $(NOTES) && go vet -vettool="$$dir/migratevet" -live example.com/notes/notebook ./migrations
	go tool -modfile=.ci/tools/go.mod golangci-lint run ./... ./testdata/demo ./testdata/bench ./testdata/picture
	cd $(NOTES) && go vet ./... && go tool -modfile=../../.ci/tools/go.mod golangci-lint run ./...
	cd $(ETCD) && go vet ./... && go tool -modfile=../../.ci/tools/go.mod golangci-lint run ./...
	cd $(FIELD) && go vet ./... && go tool -modfile=../../.ci/tools/go.mod golangci-lint run ./...

tidy:
	go mod tidy -diff
	cd $(NOTES) && go mod tidy -diff
	cd $(ETCD) && go mod tidy -diff
	cd $(FIELD) && go mod tidy -diff

# Without NAME the generators change nothing but what they keep up to date.
generated:
	go generate ./...
	cd $(NOTES) && go generate ./...
	git diff --exit-code -- migrations testdata docs
