# Server or agent as a container; the command line too: `docker run --rm remuda ps`.
#
#   docker build -t remuda .
#   docker run -d --name remuda -p 8080:8080 -v remuda:/var/lib/remuda remuda server --listen 0.0.0.0:8080
#
# The agent manages its host's networks, firewall rules and containers, so it runs in the host's namespaces:
#
#   docker run -d --name remuda-agent --restart unless-stopped --privileged --network host --pid host \
#       -v /var/run/docker.sock:/var/run/docker.sock -v /var/lib/remuda-agent:/var/lib/remuda-agent \
#       remuda agent --url URL --token TOKEN
#
# The state directory has the same path inside and outside, because Docker mounts files from it into containers. Names and
# tunnels are served from within that container too: replacing it interrupts them for a second or two, which an agent
# installed on the host does not. Where Docker refuses --privileged, the
# capabilities NET_ADMIN, NET_RAW and SYS_ADMIN (`--cap-add`) are enough.

FROM rust:1.95-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# Static, so that the server can hand the same file to any Linux host of this architecture.
ENV RUSTFLAGS="-C target-feature=+crt-static"
RUN target=$(rustc -vV | sed -n 's/^host: //p') \
    && cargo build --release --locked --target "$target" -p remuda \
    && cp "target/$target/release/remuda" /remuda

FROM debian:bookworm-slim
# iptables, iproute2: the agent's network. ca-certificates: registries and servers behind TLS.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates iproute2 iptables \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /remuda /usr/local/bin/remuda
VOLUME /var/lib/remuda
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["remuda"]
CMD ["server", "--listen", "0.0.0.0:8080"]
