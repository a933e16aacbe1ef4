# The chores. `make` alone lists them.

CARGO ?= cargo
ENVOY = $$(scripts/get-envoy)
TOLLGATE ?= $(CARGO) run --quiet --locked --
PROMETHEUS = config/prometheus
POLICIES = config/policies examples/envoy/policies
# Most tests wait for servers most of the time.
export RUST_TEST_THREADS ?= $(shell echo $$((2 * $$(nproc 2> /dev/null || echo 2))))

.DEFAULT_GOAL := help
.PHONY: help attack bench bench-micro bench-micro-once bench-quick build run demo test test-quick test-needs test-packages stress faults fmt fmt-check lint doc check-config count-instructions golden dashboard-picture docker ci

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build the release as the image does: target/release/tollgate, its symbols beside it
	scripts/in-build-context

run: build ## serve in the foreground with the shipped settings and policies (stop with Ctrl-C)
	target/release/tollgate serve --config config/tollgate.yaml

demo: ## start Tollgate with a real Envoy in front, send requests, show 200s turn into 429s
	scripts/demo

test: test-needs ## run every test, with a real Envoy, Redis and Prometheus; gets what is missing
	$(CARGO) test --locked --all-features -- --skip attacks:: --skip faults::
	$(CARGO) test --locked --all-features --test it -- attacks:: faults:: --test-threads=1

test-quick: ## run the tests that need neither Envoy nor Redis nor Prometheus
	$(CARGO) test --locked --all-features --lib --test architecture
	$(CARGO) test --locked --all-features --test it -- --skip alerts:: --skip attacks:: --skip dashboard:: --skip envoy:: --skip faults:: \
	  --skip fleet:: --skip otlp::metrics:: --skip otlp::traces:: --skip reactions:: --skip redis:: --skip suite:: \
	  --skip topology::behaviour::

stress: test-needs ## run the tests N times (3) beside busy processes, those with FILTER in their name if set
	scripts/stress-tests $(or $(N),3) $(FILTER)

faults: test-needs ## break Redis in every way under load, at full length (half an hour); print what was measured
	@rm -f target/faults.md
	@status=0; FAULTS_REPORT=$(CURDIR)/target/faults.md \
	  $(CARGO) test --release --locked --test it faults:: -- --test-threads=1 || status=$$?; \
	  cat target/faults.md; exit $$status

attack: test-needs build ## hostile clients against the release, at full size; print what each did
	@rm -f target/attack.md
	@status=0; ATTACK_REPORT=$(CURDIR)/target/attack.md TOLLGATE_BINARY=$(CURDIR)/target/release/tollgate \
	  $(CARGO) test --locked --profile load --test it attacks:: -- --test-threads=1 || status=$$?; \
	  cat target/attack.md; exit $$status

test-needs: test-packages
	scripts/get-envoy
	scripts/get-redis 6.2
	scripts/get-redis valkey

test-packages:
	@missing=; for it in curl redis-server prometheus prometheus-alertmanager; do \
	  command -v $$it > /dev/null || missing="$$missing $$it"; done; \
	  [ -z "$$missing" ] || scripts/install-packages $$missing

bench: ## what a decision costs beside a service that does nothing, on every axis (a quarter of an hour)
	scripts/bench

bench-quick: ## the same, the budgets alone (three minutes)
	scripts/bench --quick

bench-micro: ## how long matching, each algorithm, reading and writing take
	scripts/in-build-context $(CARGO) bench --locked --bench micro -- $(ARGS)

bench-micro-once: ## run each of these once, not optimised: to see that they work
	$(CARGO) test --locked --bench micro

count-instructions: ## hold the instructions of a decision to benches/instructions.tsv; UPDATE=1 takes the new ones
	scripts/count-instructions $(if $(UPDATE),--update)

fmt: ## format the code
	$(CARGO) fmt

fmt-check: ## fail if the code is not formatted
	$(CARGO) fmt --check

lint: ## clippy over all targets, warnings are errors
	$(CARGO) clippy --locked --all-targets --all-features -- -D warnings

doc: ## build the documentation of the code, private items included, warnings are errors
	RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" $(CARGO) doc --locked --no-deps --document-private-items

check-config: ## check all shipped policies, the example's Envoy configuration, the rules for Prometheus
	$(TOLLGATE) check $(POLICIES)
	$(ENVOY) --mode validate --log-level error -c examples/envoy/envoy.yaml
	scripts/make-dashboard --check
	@if command -v promtool > /dev/null; then \
	  promtool check config $(PROMETHEUS)/prometheus.yml && promtool test rules $(PROMETHEUS)/tollgate.rules.test.yml; \
	else echo "promtool is not here, so the rules for Prometheus are not checked (package prometheus)"; fi

golden: ## write the golden reports and the README's tables anew after a deliberate change; review the diff
	UPDATE_GOLDEN=1 $(CARGO) test --locked --lib --test it -- golden proto:: readme::tables metrics_doc::tables

dashboard-picture: test-packages ## draw docs/dashboard.png: the dashboard over two minutes of load and faults
	DASHBOARD_PICTURE=$(CURDIR)/docs/dashboard.png $(CARGO) test --locked --test it dashboard::data::

docker: ## build the image `tollgate` (needs a Docker engine); checks first what needs none
	scripts/check-docker
	docker build --tag tollgate .

ci: ## all of the above that a change must pass
	.ci/run
