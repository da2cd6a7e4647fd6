# The gateway in a container: `docker build -t portunus .`, then run it with a configuration at
# /etc/portunus/portunus.toml. The Python is the newest that the tests pass with.
FROM python:3.14-slim-trixie AS build
WORKDIR /source
RUN python -m venv /opt/portunus
COPY constraints.txt ./
RUN /opt/portunus/bin/pip install --no-cache-dir --no-deps --only-binary :all: --require-hashes -r constraints.txt
COPY pyproject.toml README.md LICENSE ./
COPY gateway gateway
COPY janus-config janus-config
COPY mcu mcu
COPY sdp sdp
RUN /opt/portunus/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.14-slim-trixie
COPY --from=build /opt/portunus /opt/portunus
# A number, so that an orchestrator can tell that it is not root. The gateway writes no file below the root.
RUN useradd --uid 10001 --system --no-create-home portunus
USER 10001
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=10s --start-period=20s \
    CMD ["/opt/portunus/bin/portunus", "health", "-c", "/etc/portunus/portunus.toml"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/opt/portunus/bin/portunus"]
CMD ["serve", "-c", "/etc/portunus/portunus.toml"]
