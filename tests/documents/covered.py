"""Where the commands that documents show are run, if ``test_shown_commands`` does not run them itself."""

from __future__ import annotations

from typing import NamedTuple


class Place(NamedTuple):
    """A file that runs the same, and a part of it that does so."""

    file: str
    part: str


# Sections whose commands ``documented_setup`` runs one after another in a booted Debian 12, but for those below.
MACHINE_SECTIONS = {"In ten minutes": "install.md", "Moving": "migration.md", "Back": "migration.md"}

_LAUNCH = "tests/janus_process.py"
_COMPILE = Place(_LAUNCH, '"gcc", "-shared", "-fPIC", "-O2", *options, "-o", library, source, "-ldl"')
_JANUS_PACKAGES = Place("Makefile", "PACKAGES := janus chromium fonts-dejavu-core gcc libc6-dev")
_SETUP = "tests/setup/test_installation.py"
_PACKAGING = "tests/test_packaging.py"
_CONTROLS = "tests/gateway/edge/operator/test_media_controls.py"
_MACHINE = "tests/setup/documented_setup.py"

RUN_ELSEWHERE = {
    "make demo": Place(_PACKAGING, '"demo", "--port", "0"'),
    "make demo HOST=192.0.2.7": Place("tests/browser/test_https.py", "inprocess(), https=True)"),
    "make test": Place(_SETUP, 'run("scripts/venv", "constraints-dev.txt"'),
    "make lint": Place(_SETUP, 'run("scripts/venv", "constraints-dev.txt"'),
    "make deb": Place("tests/setup/conftest.py", 'run("scripts/deb"'),
    "portunus serve -c portunus.toml": Place("tests/gateway/served.py", 'PORTUNUS, "serve", "-c"'),
    "portunus serve -c /etc/portunus/portunus.toml": Place("tests/gateway/served.py", 'PORTUNUS, "serve", "-c"'),
    "portunus doctor https://signal.example.com/standalone-signaling/ -c /etc/portunus/portunus.toml --media": Place(
        "tests/gateway/tools/doctor/test_media.py", "test_media_are_tried_on_request_only"
    ),
    "gcc -shared -fPIC -O2 -o /usr/local/lib/libjanus_datachannels.so janus/datachannels.c -ldl": _COMPILE,
    "gcc -shared -fPIC -O2 -o /usr/local/lib/libjanus_datachannels.so janus-config/datachannels.c -ldl": _COMPILE,
    "apt-get install janus gcc libc6-dev": _JANUS_PACKAGES,
    "apt-get install janus coturn gcc libc6-dev": _JANUS_PACKAGES,
    "python3 -m venv /opt/portunus": Place(_PACKAGING, '"-m", "venv"'),
    "/opt/portunus/bin/pip install --no-deps --only-binary :all: --require-hashes -r constraints.txt": Place(
        _PACKAGING, '"pip", "install", *PINNED_OPTIONS, "-r", ROOT / "constraints.txt"'
    ),
    "/opt/portunus/bin/pip install --no-deps --no-build-isolation .": Place(
        _PACKAGING, '"pip", "wheel", "--no-deps", "--no-build-isolation"'
    ),
    "janus -F /srv/janus/conf -C /srv/janus/conf/janus.jcfg": Place(_LAUNCH, '"-F", run / "conf", "-C"'),
    "useradd --system --no-create-home --shell /usr/sbin/nologin portunus": Place(_MACHINE, "USER_COMMAND"),
    "install -d -m 755 /etc/portunus": Place(_MACHINE, "FOLDER_COMMAND"),
    "install -m 644 portunus.service portunus.socket portunus-janus.service /etc/systemd/system/": Place(
        _MACHINE, "UNITS_COMMAND"
    ),
    "systemctl enable --now portunus-janus portunus.socket portunus": Place(_MACHINE, "MACHINE_SECTIONS"),
    "curl http://127.0.0.1:@GATEWAY_PORT@/readyz": Place(_MACHINE, "/readyz"),
    "curl https://@DOMAIN@/standalone-signaling/api/v1/welcome": Place(
        "tests/interop/test_reverse_proxies.py", "/api/v1/welcome"
    ),
    "curl http://127.0.0.1:8080/test/streams": Place(_CONTROLS, 'STREAMS = "/test/streams"'),
    "curl -X POST http://127.0.0.1:8080/test/streams/$SESSION/video/impair"
    ' -d \'{"loss": 0.05, "jitter": 0.05, "seed": 1}\'': Place(_CONTROLS, "/impair"),
    "curl -X POST http://127.0.0.1:8080/test/streams/$SESSION/video/silence": Place(_CONTROLS, "/silence"),
    "curl -X POST http://127.0.0.1:8080/test/streams/$SESSION/video/revive": Place(_CONTROLS, "/revive"),
    "uv sync": Place(_SETUP, 'run(UV, "sync"'),
    'uv run pytest -m "not full and not soak"': Place(_SETUP, 'run(UV, "run"'),
    "uv venv": Place(_SETUP, 'run(UV, "venv"'),
    "uv pip sync --require-hashes constraints-dev.txt": Place(
        _SETUP, 'UV, "pip", "sync", "--require-hashes", "constraints-dev.txt"'
    ),
}

# Run by hand, for the given reason.
RUN_BY_HAND = {
    "make test-full": "it runs the test of this list",
    "make soak": "hours; docs/soak.md has its results",
    "make compare": "needs the Go server; docs/protocol.md has its results",
    "make bench": "needs the Go server; docs/performance.md has its results",
    "make bench-quick": "docs/performance.md has its results",
    "make bench-sfu": "minutes; docs/performance.md has its results",
    "/opt/portunus/bin/pip install --no-deps --only-binary :all: --require-hashes -r constraints-tracing.txt": (
        "80 MB in an environment of its own; tried in December 2026"
    ),
    "uv pip install --no-deps --no-build-isolation --editable .": "tried in November 2026 (CONTRIBUTING.md)",
    'uv run --no-sync pytest -m "not full and not soak"': "tried in November 2026 (CONTRIBUTING.md)",
}

# Beginnings of commands that nothing runs here: there is no container engine, and no real Nextcloud in the tests. The
# document has to say that they are untried, or that they are Nextcloud's.
UNTRIED = {"docker ": "**Untried**", "php occ ": "In Nextcloud's folder"}
