FROM rust:1.95.0-slim-bookworm AS builder
# The linker and libc's headers come with the image; cmake builds zlib-ng, for which Pingora asks.
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential cmake \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# For `portcullis version`: there is no .git in here. docker build --build-arg PORTCULLIS_COMMIT="$(git rev-parse HEAD)"
ARG PORTCULLIS_COMMIT
# The caches outlive the layer, so a changed source line does not rebuild every dependency; the binary is copied
# out because a cache is not part of the image.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked \
    && cp target/release/portcullis /portcullis

# The builder's Debian, so the same libc. Not distroless: the health check below needs a shell.
FROM debian:12.14-slim
# The trust store for issuers behind a public certificate.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/*
COPY --from=builder /portcullis /usr/local/bin/portcullis
# A number, so that Kubernetes can see that it is not root (runAsNonRoot). No such user needs to exist.
USER 65532:65532
# The admin listener on 9072 is not for publishing and therefore not exposed.
EXPOSE 8072
# Alive, not ready: a gateway without keys must not be restarted for it. bash speaks HTTP, so nothing is installed
# for this. It expects the admin listener on its default port.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/9072 && printf 'GET /livez HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n' >&3 && read -r _ status _ <&3 && [ \"$status\" = 200 ]"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/portcullis"]
# Mounted by whoever runs this: there is no configuration that would be right for everybody.
CMD ["run", "--config", "/etc/portcullis/portcullis.yaml"]
