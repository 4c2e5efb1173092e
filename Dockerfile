# syntax=docker/dockerfile:1

# The images of the operator and of the sandbox portal, each one static program, for amd64 and arm64:
#
#   docker buildx build --platform linux/amd64,linux/arm64 --tag okid-operator .
#   docker buildx build --platform linux/amd64,linux/arm64 --tag okid-sandbox --target sandbox .
#
# `cargo xtask image` writes the same kind of image without Docker. A test compares the two.

FROM --platform=$BUILDPLATFORM rust:1.95.0-bookworm AS build
# Writes the list of a program's dependencies into the program.
RUN cargo install cargo-auditable --version 0.7.7 --locked
ARG TARGETARCH
# A compiler and a C library for the other architecture, if this is not the one that builds.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates make \
    && if [ "$TARGETARCH" != "$(dpkg --print-architecture)" ]; then \
        apt-get install --yes --no-install-recommends "crossbuild-essential-$TARGETARCH"; \
    fi \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
ENV CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
    CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER=x86_64-linux-gnu-gcc \
    CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc \
    CC_x86_64_unknown_linux_gnu=x86_64-linux-gnu-gcc \
    RUSTFLAGS="-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs"
# The caches keep what the dependencies compiled to. On arm64 jemalloc serves kernels with pages of up to 64 KiB.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,id=target-$TARGETARCH,target=/src/target \
    case "$TARGETARCH" in \
        amd64) target=x86_64-unknown-linux-gnu ;; \
        arm64) target=aarch64-unknown-linux-gnu; export JEMALLOC_SYS_WITH_LG_PAGE=16 ;; \
        *) echo "no image is built for $TARGETARCH" >&2; exit 1 ;; \
    esac \
    && rustup target add "$target" \
    && cargo auditable build --release --locked --target "$target" --package okid-operator --package okid-sandbox \
    && mkdir /out \
    && cp "target/$target/release/okid-operator" "target/$target/release/okid-sandbox" /out/

FROM scratch AS base
ARG VERSION=0.1.0
ARG REVISION=
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
USER 65532:65532
LABEL org.opencontainers.image.licenses="Apache-2.0"
LABEL org.opencontainers.image.source="https://github.com/okid-io/okid-operator"
LABEL org.opencontainers.image.version="$VERSION"
LABEL org.opencontainers.image.revision="$REVISION"

FROM base AS sandbox
LABEL org.opencontainers.image.title="okid-sandbox"
LABEL org.opencontainers.image.description="A simulated okID portal to try the operator with; not for production"
COPY --from=build /out/okid-sandbox /okid-sandbox
ENV OKID_SANDBOX_LISTEN=0.0.0.0:8090
EXPOSE 8090/tcp
ENTRYPOINT ["/okid-sandbox"]

FROM base AS operator
LABEL org.opencontainers.image.title="okid-operator"
LABEL org.opencontainers.image.description="okID identity checks as Kubernetes resources"
COPY --from=build /out/okid-operator /okid-operator
EXPOSE 8080/tcp
ENTRYPOINT ["/okid-operator"]
CMD ["run"]
