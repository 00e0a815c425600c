# syntax=docker/dockerfile:1
#
# The images of a release:
#
#     docker build --target node     --tag <registry>/meridian:<version> .
#     docker build --target operator --tag <registry>/meridian-operator:<version> .

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --package meridian-server --package meridian-operator --bins \
    && mkdir /out \
    && cd target/release \
    && cp meridian meridian-central meridian-regional meridian-edge meridian-live meridian-operator /out/ \
    && strip /out/*

FROM debian:bookworm-slim AS base
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/*
# A number, so that Kubernetes can see that it is not root.
USER 65532:65532

FROM base AS operator
COPY --from=build /out/meridian-operator /usr/local/bin/
CMD ["meridian-operator", "run"]

FROM base AS node
COPY --from=build /out/meridian /out/meridian-central /out/meridian-regional /out/meridian-edge /out/meridian-live /usr/local/bin/
CMD ["meridian"]
