# The commands of this repository. What each installs is said in README.md.

.PHONY: run test bench fmt

# Server, local host and examples/hello on this machine, until Ctrl-C.
run:
	@packaging/run

# Everything: formatting, clippy, all Rust tests (real Docker daemons, PostgreSQL), the outside clients.
test:
	@packaging/test

# The promised numbers, as ratios measured in one run.
bench:
	@packaging/bench

fmt:
	cargo fmt --all
