# The project's commands; `make help` lists them. Each is one script or one cargo call, works on a machine that
# has never seen the project, and can be repeated.
.DEFAULT_GOAL := help
.PHONY: help demo demo-down build test-fast test simulate model mutations test-faults soak lint doc fmt bench-failover clean-cluster

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## Kill and freeze a primary on a real Kubernetes, and see what clients notice (root)
	dev/demo.sh

demo-down: ## Remove everything that the demo made
	dev/demo-down.sh

build: ## Build the operator
	cargo build

test-fast: ## Run the tests that need no server (seconds once compiled)
	cargo test --features testing --lib --test architecture --test examples --test failover --test golden --test scenarios

test: ## Set up what the tests need and run all of them (root, Debian 12)
	dev/test.sh

simulate: ## Simulate SEEDS failovers, 1000 by default, each with its own faults (minutes)
	dev/simulate.sh $(or $(SEEDS),1000) $(FIRST)

model: ## Search all orders of events in the large worlds of the model (minutes)
	dev/model.sh

mutations: ## Switch each safety rule off and see what notices; writes docs/safety-rules.md (minutes)
	dev/mutations.sh

test-faults: ## Play real faults on real servers, all or FAULTS=F01,F05, each TIMES=1 (an hour; root)
	BATON_TIMES=$(or $(TIMES),1) dev/faults.sh $(FAULTS)

soak: ## Make noise without cause for a failover for HOURS, 1 by default (root)
	dev/soak.sh $(or $(HOURS),1)

lint: ## Check formatting, lints, API documentation, dependencies and scripts
	dev/lint.sh

doc: ## Build the API documentation into target/doc
	dev/doc.sh

fmt: ## Format the code
	cargo fmt

bench-failover: ## Measure failovers as writers see them (minutes; root)
	dev/bench-failover.sh

clean-cluster: ## Remove this checkout's local Kubernetes
	dev/kubernetes/down.sh
