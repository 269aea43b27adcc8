# Recipes are short; what is longer is a test or a program. `just` alone lists them.

_default:
    @just --list

# the demo, which checks itself and ends
demo:
    cargo run --bin orangery -- demo --once

# what every change must pass, without what needs root
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    cargo test --workspace
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# the exhaustive and kill tests at full length
test-long:
    cargo test --release -p orangery-agent --test exhaustive -- --ignored --nocapture
    cargo test -p orangery-agent --test power_cut -- --ignored --nocapture full_length
    ORANGERY_POWER_CUT_INJECT=fsync:delay_enter=20000 cargo test -p orangery-agent --test power_cut -- --nocapture
    cargo test --release -p orangery-tests --test kills -- --ignored --nocapture
    cargo test --release -p orangery-tests --test network -- --ignored --nocapture long_
    cargo test -p orangery-agent --test syscalls -- --ignored --nocapture
    cargo test -p orangery-tests --test full_disk -- --ignored --nocapture
    cargo test --release -p orangery-sim -- --ignored --nocapture --test-threads 1

# one fleet in virtual time, again bit for bit: `just sim 7 --nodes 1000 --days 30`
sim SEED *OPTIONS:
    cargo run --profile sim -p orangery-sim --bin sim -- {{SEED}} {{OPTIONS}}

# the systemd runner, and whole boards, under a booted systemd; needs root, systemd-container and mmdebstrap
test-nspawn:
    cargo test -p orangery-agent --test systemd_runner -- --ignored --nocapture --test-threads 2
    cargo test -p orangery-tests --test board --test agent_update -- --ignored --nocapture --test-threads 2

# networks that come, go and are taken away, in network namespaces; needs root, iproute2 and nftables
test-netns:
    cargo test -p orangery-tests --test network -- --ignored --nocapture --skip long_

# the public conformance suite of TUF, from a checkout with its virtual environment in .venv: see tests/README.md
conformance CHECKOUT:
    cargo build -p orangery-tests --bin tuf-client
    cd {{CHECKOUT}} && .venv/bin/python -m pytest -q tuf_conformance --entrypoint {{justfile_directory()}}/target/debug/tuf-client

# fuzz one target (root, timestamp, snapshot, targets, manifest, bundle, tree); needs nightly and cargo-fuzz
fuzz TARGET *OPTIONS:
    cd tests && cargo +nightly fuzz run --fuzz-dir fuzz {{TARGET}} -- {{OPTIONS}}

# the corpus that the fuzz targets begin with, written anew
fuzz-corpus:
    cargo test -p orangery-agent --test fuzz_corpus -- --ignored the_corpus_is_written

# the agent as boards get it, with relative relocations packed
dist:
    RUSTFLAGS="-C link-arg=-Wl,-z,pack-relative-relocs" cargo build --profile dist -p orangery-agent -p orangery-greeter

# size and speed, side by side with their floors
bench *FIGURES: dist
    cargo build --release --workspace --bins
    ORANGERY_PROGRAMS=target/dist cargo run --release -p orangery-tests --bin bench -- {{FIGURES}}

# a fleet of simulated nodes against the coordinator, and against one with Mosquitto in its broker's place: `just bench-fleet --repeat 3 1000 5000`
bench-fleet *OPTIONS:
    cargo build --release -p orangery -p orangery-greeter -p orangery-tests --bins
    ORANGERY_PROGRAMS=target/release target/release/bench-fleet {{OPTIONS}}

# what is missing for cross-compiling, packaging and ARM tests; --install brings what apt, pip and cargo can
ensure *OPTIONS:
    packaging/ensure.sh {{OPTIONS}}

# static programs for aarch64, armv7 and x86_64, or those that are named; sizes are printed and gated
cross *TARGETS:
    packaging/cross.sh {{TARGETS}}

# Debian packages of what `just cross` built
packages *TARGETS:
    packaging/packages.sh {{TARGETS}}

# tarballs of the packages, signed with `--key SSH_KEY`
tarballs *OPTIONS:
    packaging/tarball.sh {{OPTIONS}}

# the agent built twice from different directories: the same bytes?
reproducible:
    packaging/reproducible.sh

# the tests of wire, trust and agent as ARM programs under qemu-user
test-arm *OPTIONS:
    packaging/test-arm.sh {{OPTIONS}}

# the packages in a booted Debian: installed, joined, upgraded in the middle of a deployment, purged; needs root
test-packages:
    packaging/lint.sh
    cargo test -p orangery-tests --test packages -- --ignored --nocapture --test-threads 1

# the Ansible collection over SSH into a booted Debian, after its linter; needs root, cargo-deb and python3-venv
test-ansible:
    cargo test -p orangery-tests --test ansible -- --ignored --nocapture --test-threads 1

# the dashboard in a real browser; needs what `apt-get install chromium libnss3-tools nodejs npm` brings. ORANGERY_SCREENSHOTS=DIR keeps pictures
test-dashboard:
    cargo test -p orangery-tests --test dashboard -- --ignored --nocapture

# commits that are signed, for a watch that takes no others; needs what `apt-get install git openssh-client` brings
test-signed-commits:
    cargo test -p orangery-tests --test fleet_watch -- --ignored --nocapture

# a complete image of a board, of Debian and the agent's package: `just image generic-arm64 board.img`; needs root
image BOARD OUT:
    packaging/cross.sh --only orangery-agent aarch64
    packaging/packages.sh --only orangery-agent aarch64
    images/build.sh {{BOARD}} {{OUT}}

# an emulated board, from image to power cuts; needs root, qemu-system-arm and u-boot-qemu; half an hour
test-board *OPTIONS:
    images/test-board.sh {{OPTIONS}}
