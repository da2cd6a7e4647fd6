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
RUN useradd --system --no-create-home portunus
USER portunus
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["/opt/portunus/bin/portunus"]
CMD ["serve", "-c", "/etc/portunus/portunus.toml"]
