# Thin names for the daily commands; `cargo xtask --help` explains each.

# List the recipes.
default:
    @just --list

# A real model behind a Service on a local Kubernetes, from nothing.
demo:
    cargo xtask demo

# Every test, as CI runs it.
test:
    cargo xtask test

# Rollouts under load on the local cluster, and a table of what each took.
rollouts *args:
    cargo xtask e2e rollouts {{ args }}

# The inner loop: everything that needs no cluster.
quick:
    cargo xtask test --tier quick

# Format the code.
fmt:
    cargo fmt --all

# Lint the code as CI does.
lint:
    cargo clippy --workspace --all-targets -- -D warnings

# From files to ready, beside what the machine can do and what Python takes.
bench-load *args:
    cargo xtask bench load {{ args }}

# How fast the engine computes, in turns with others
bench-engine *args:
    cargo xtask bench engine {{ args }}

# How fast a cross-encoder scores passages, in turns with others
bench-rerank *args:
    cargo xtask bench rerank {{ args }}

# What serving costs, beside the engine in process and infinity
bench-serve *args:
    cargo xtask bench serve {{ args }}

# What is answered and refused at three times the capacity
bench-overload *args:
    cargo xtask bench overload {{ args }}

# What answers take while a new version is loaded beside them
bench-reload *args:
    cargo xtask bench reload {{ args }}

# Whether memory stays flat under a load that goes on
soak *args:
    cargo xtask soak {{ args }}

# Damaged files and messages for everyone who reads them.
fuzz *args:
    cargo xtask fuzz {{ args }}

# Write crds/, config/ and charts/ from their source.
generate:
    cargo xtask generate

# The local cluster: up, down or status.
cluster command="status":
    cargo xtask cluster {{ command }}

# kubectl for the local cluster.
kubectl *args:
    cargo xtask kubectl {{ args }}

# OCI images as tar files in .local/images/.
images *args:
    cargo xtask images {{ args }}
