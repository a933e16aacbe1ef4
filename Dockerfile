# The image: one binary, no shell, not root, nothing written.
#
#   docker build --tag tollgate .
#   docker run --rm -p 8081:8081 -p 8080:8080 tollgate           # serves config/policies
#   docker run --rm -p 8081:8081 -v ./my-policies:/etc/tollgate/policies:ro tollgate
#
# scripts/check-docker holds this file to the repository where no engine runs.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY proto ./proto
COPY src ./src
RUN ["cargo", "build", "--release", "--locked"]

# C library and CA certificates, and a user `nonroot`; its Debian is that of the stage above.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /src/target/release/tollgate /usr/local/bin/tollgate
COPY config/tollgate.yaml /etc/tollgate/tollgate.yaml
COPY config/policies /etc/tollgate/policies
# As a number, so that Kubernetes can see that it is not root (runAsNonRoot).
USER 65532:65532
# gRPC for Envoy, HTTP (health, /metrics, /json). The admin listener stays on loopback.
EXPOSE 8081 8080
HEALTHCHECK --interval=10s --timeout=2s --start-period=5s CMD ["/usr/local/bin/tollgate", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/tollgate"]
CMD ["serve", "--config", "/etc/tollgate/tollgate.yaml", "--policies", "/etc/tollgate/policies"]
