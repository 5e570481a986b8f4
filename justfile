# `just verify` before every change is handed in; it never writes to the tree. `just fix` is its mutating twin.

default: verify

# Everything CI checks, read-only. CI also requires the tools that some tests compare with: export TIDEMILL_REQUIRE_TOOLS=1.
verify:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --locked -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
    cargo test --workspace --locked
    cargo check --manifest-path fuzz/Cargo.toml --locked
    cargo deny --workspace check bans licenses sources

# Formats, and applies what clippy can apply by itself.
fix:
    cargo fmt --all
    cargo clippy --workspace --all-targets --fix --allow-dirty --allow-staged
    cargo fmt --all

# A secured cluster runs a job while its certificates rotate every second.
demo *ARGS:
    cargo run --release -- demo {{ARGS}}

# Fuzzes one target (`just fuzz` lists them) for a minute, from fuzz/seeds on; needs nightly and cargo-fuzz.
fuzz TARGET="" SECONDS="60":
    {{ if TARGET == "" { "cargo +nightly fuzz list" } else { "mkdir -p fuzz/corpus/" + TARGET + " && cargo +nightly fuzz run " + TARGET + " fuzz/corpus/" + TARGET + " fuzz/seeds/" + TARGET + " -- -dict=fuzz/dictionaries/" + TARGET + ".dict -max_total_time=" + SECONDS } }}
