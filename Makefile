# make demo   the main job on a store in a temporary directory
# make test   all tests
# make bench  what docs/performance.md holds it to, measured; BENCH=-quick for a try
# make check  everything that must hold before a commit
# make soak   the kills and power losses of make test, by the hundreds

# The race detector needs a C compiler; make check insists on it.
RACE := $(if $(filter 1,$(shell go env CGO_ENABLED)),-race)

# A program of its own module, as a user has.
NOTES := testdata/notes

# The store over etcd is a module of its own. Its tests start etcd servers.
ETCD := store/etcdstore

.PHONY: demo test bench check soak lint tidy generated

demo:
	@go run ./testdata/demo

test:
	go test -timeout 30m $(RACE) ./...
	cd $(NOTES) && go test $(RACE) ./...
	cd $(ETCD) && go test $(RACE) ./...

bench:
	@go run ./testdata/bench $(BENCH)

check: lint tidy generated
	go test -timeout 30m -race ./...
	cd $(NOTES) && go test -race ./...
	cd $(ETCD) && go test -race ./...

soak:
	KVMIGRATE_SOAK=1 go test -count=1 -timeout 2h -run 'Kill|PowerLoss' ./migrate ./migrate/backup ./migrate/transfer ./store/badgerstore ./systables/jobs
	cd $(ETCD) && KVMIGRATE_SOAK=1 go test -count=1 -timeout 2h -run Kill ./cmd/kvmigrate

lint:
	@test -z "$$(gofmt -l docs store migrate migrations systables testdata)" || { gofmt -l docs store migrate migrations systables testdata; exit 1; }
	go vet ./... ./testdata/demo ./testdata/bench ./testdata/picture
	dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && go build -o "$$dir/migratevet" ./migrate/cmd/migratevet && \
		go vet -vettool="$$dir/migratevet" -live github.com/kvmigrate/kvmigrate/systables ./migrations && \
		cd $(NOTES) && go vet -vettool="$$dir/migratevet" -live example.com/notes/notebook ./migrations
	go tool -modfile=.ci/tools/go.mod golangci-lint run ./... ./testdata/demo ./testdata/bench ./testdata/picture
	cd $(NOTES) && go vet ./... && go tool -modfile=../../.ci/tools/go.mod golangci-lint run ./...
	cd $(ETCD) && go vet ./... && go tool -modfile=../../.ci/tools/go.mod golangci-lint run ./...

tidy:
	go mod tidy -diff
	cd $(NOTES) && go mod tidy -diff
	cd $(ETCD) && go mod tidy -diff

# Without NAME the generators change nothing but what they keep up to date.
generated:
	go generate ./...
	cd $(NOTES) && go generate ./...
	git diff --exit-code -- migrations testdata docs
