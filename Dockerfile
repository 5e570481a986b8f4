# One image with the five programs: `tidemill`, and it again under the names of the four roles. It holds no shell and no
# package manager, and runs as nobody in particular.
#
#   docker build -t tidemill .      builds everything in here; a changed source file does not build dependencies again
#
#   install -D target/release/tidemill docker/outside/tidemill
#   docker build -t tidemill --build-arg PROGRAMS=outside .      takes a binary that was built outside (glibc 2.36 or older)
#
# Where no registry can be reached, docker/base-images makes the two images that everything starts from.
ARG RUST_IMAGE=rust:1.95-bookworm
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot

# The manifests, with empty crates behind them: all that dependencies depend on. Modes are part of what a layer is known by,
# and depend on the umask of whoever checked the files out.
FROM ${RUST_IMAGE} AS manifests
WORKDIR /src
COPY . .
RUN mkdir /manifests && cp Cargo.toml Cargo.lock /manifests/ \
 && for manifest in */Cargo.toml; do \
      [ -f "$manifest" ] || continue; \
      crate="/manifests/${manifest%/*}"; mkdir -p "$crate/src" "$crate/benches"; cp "$manifest" "$crate/"; \
      : > "$crate/src/lib.rs"; echo 'fn main() {}' > "$crate/src/main.rs"; \
      if grep -q '^\[build-dependencies\]' "$manifest"; then echo 'fn main() {}' > "$crate/build.rs"; fi; \
      for bench in $(sed -n '/^\[\[bench\]\]/,/^$/s/^name = "\(.*\)"/\1/p' "$manifest"); do \
        echo 'fn main() {}' > "$crate/benches/$bench.rs"; \
      done; \
    done \
 && chmod -R u=rwX,go=rX /manifests

FROM ${RUST_IMAGE} AS programs
# `inside`: built here. `outside`: docker/outside/tidemill.
ARG PROGRAMS=inside
# A profile of cargo's: `release`, or `dev` for an image that is made sooner and runs slower.
ARG PROFILE=release
WORKDIR /src
COPY --from=manifests /manifests .
RUN [ "$PROGRAMS" = outside ] || cargo build --locked --profile "$PROFILE" -p tidemill
COPY . .
# Sources count as changed by their age, and the empty ones may be younger than these.
RUN mkdir -p /programs \
 && if [ "$PROGRAMS" = outside ]; then \
      cp docker/outside/tidemill /programs/; \
    else \
      find . -path ./target -prune -o -type f -exec touch {} + \
      && cargo build --locked --profile "$PROFILE" -p tidemill \
      && cp "target/$(echo "$PROFILE" | sed s/^dev$/debug/)/tidemill" /programs/; \
    fi \
 && strip /programs/tidemill \
 && for role in jobmanager taskmanager blob-server rest-gateway; do ln -s tidemill "/programs/$role"; done \
 && mkdir -p /skeleton/conf/tls /skeleton/data && cp docker/config.yaml /skeleton/conf/

FROM ${RUNTIME_IMAGE}
ARG RUNTIME_IMAGE
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Tidemill" \
      org.opencontainers.image.description="Cluster runtime for stream jobs in SQL, whose certificates may change at any time" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${RUNTIME_IMAGE}"
COPY --from=programs /programs/ /usr/local/bin/
# Volumes begin as copies of these, and so belong to whom the programs run as.
COPY --from=programs --chown=65532:65532 /skeleton/ /opt/tidemill/
WORKDIR /opt/tidemill
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/tidemill"]
CMD ["--help"]
