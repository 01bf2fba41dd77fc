# Everything a contributor runs; `just check` is what CI runs.

default:
    @just --list

# What CI runs.
check:
    .ci/run

# The tests that README names.
test:
    cargo test --workspace

# Format everything.
fmt:
    cargo fmt --all

# Lints as CI sees them.
lint:
    cargo clippy --workspace --all-targets -- -D warnings

# Documentation without warnings.
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# ARCHITECTURE.md against the tree, licences, files, templates.
tidy:
    cargo run -q -p xtask -- tidy

# Licences and sources of every dependency.
deny:
    cargo run -q -p xtask -- deny

# The Neural Engine's crate, linted and linked for a Mac on any machine.
ane-mac:
    cargo run -q -p xtask -- ane-mac

# The emulator against the CPU trainer.
bench-ane:
    cargo bench -p sprag-ane --bench step

# The first command of README, as short as it can be, as CI runs it.
quickstart-check:
    cargo run -q -p xtask -- quickstart

# The loop's overhead besides training.
bench-loop:
    cargo bench -p sprag --bench overhead

# Speed of the token loader.
bench-loader:
    cargo bench -p sprag-train --bench loader

# Pictures of a report at two widths, to be looked at.
screenshot REPORT="sprag-quickstart/report.html":
    cargo run -q -p xtask -- screenshot {{REPORT}}

# Training steps of the template, and PyTorch's where python3 has it.
bench-torch *ARGS:
    cargo bench -p sprag-train --bench step -- {{ARGS}}

# Every operation and optimiser step on a device against the CPU: wgpu, cuda or metal. Mesa's lavapipe, which
# computes on the CPU, is a device of wgpu's.
test-device DEVICE="wgpu":
    cargo test --release -p sprag-train --features {{DEVICE}} --test devices

# The kernels under the address sanitizer of the stable toolchain, on Linux.
sanitize:
    RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address cargo test --target x86_64-unknown-linux-gnu -p sprag-train --lib kernels

# The first command of README.
quickstart *ARGS:
    cargo run --release -- quickstart {{ARGS}}

# Rewrite docs/cli.md from the program's own help.
cli-reference:
    SPRAG_UPDATE=1 cargo test -p sprag
