# The image: one binary, no shell, not root, nothing written.
#
#   docker build --tag tollgate .
#   docker run --rm -p 8081:8081 -p 8080:8080 tollgate           # serves config/policies
#   docker run --rm -p 8081:8081 -v ./my-policies:/etc/tollgate/policies:ro tollgate
#
# Its binary has no symbols (16 MB instead of 88). They come from the same build:
#
#   docker build --target symbols --output symbols .             # symbols/tollgate.debug
#
# `make build` runs the commands of the first stage in a folder with just what is copied here, and
# scripts/check-docker holds the rest of this file to the repository where no engine runs.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
# Not compiled here, but Cargo.toml names what is in it.
COPY benches ./benches
COPY proto ./proto
COPY src ./src
RUN ["cargo", "build", "--release", "--locked"]
RUN ["objcopy", "--only-keep-debug", "--compress-debug-sections", "target/release/tollgate", "target/release/tollgate.debug"]
RUN ["objcopy", "--strip-all", "--add-gnu-debuglink=target/release/tollgate.debug", "target/release/tollgate", "target/release/tollgate.stripped"]

FROM scratch AS symbols
COPY --from=build /src/target/release/tollgate.debug /tollgate.debug

# C library and CA certificates, and a user `nonroot`; its Debian is that of the first stage.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /src/target/release/tollgate.stripped /usr/local/bin/tollgate
COPY config/tollgate.yaml /etc/tollgate/tollgate.yaml
COPY config/policies /etc/tollgate/policies
# As a number, so that Kubernetes can see that it is not root (runAsNonRoot).
USER 65532:65532
# gRPC for Envoy, HTTP (health, /metrics, /json). The admin listener stays on loopback.
EXPOSE 8081 8080
HEALTHCHECK --interval=10s --timeout=2s --start-period=5s CMD ["/usr/local/bin/tollgate", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/tollgate"]
CMD ["serve", "--config", "/etc/tollgate/tollgate.yaml", "--policies", "/etc/tollgate/policies"]
