"""Translates the options of ``server.conf`` into the keys of Portunus.

Source: docs/migration.md, "From server.conf".
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable

from gateway.config import listen_address
from gateway.config.checks import is_placeholder, session_secret_problem
from gateway.config.geoip import is_network, is_path_or_url
from gateway.core.backends import COMPAT, canonical
from gateway.tools.configuration.incumbent.no_equivalent import DEFAULTS, NO_EQUIVALENT, comment_value, reason
from gateway.tools.configuration.incumbent.server_conf import ServerConf
from gateway.tools.configuration.incumbent.toml_file import TomlFile

# The proxies that the Go server trusts by default; Portunus trusts loopback only.
TRUSTED_PROXIES = ["127.0.0.0/8", "::1", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]
TRANSLATED_SECTIONS = {"clients", "stats", "turn", "geoip", "geoip-overrides"}  # with equivalents of all options
EXAMPLE_URL = "https://cloud.example.com/"
ENTER_IN_TALK = " Enter it in Nextcloud, too: Settings, Talk, High-performance backend."

_country_code = re.compile(r"[A-Za-z]{2}")


class Translation:
    """One translated file: ``text`` is the result, ``notes`` are sentences on options that were changed or left out."""

    def __init__(self, conf: ServerConf, new_secret: Callable[[], str] = lambda: secrets.token_hex(32)) -> None:
        """Translate all options.

        Raises:
            ServerConfError: an option refers to itself, or to an option or variable that does not exist.
        """
        self._conf = conf
        self._new_secret = new_secret
        self._file = TomlFile()
        self.notes: list[str] = []
        self._file.comment("The configuration of Portunus, imported from server.conf.")
        for translate in (
            self._http,
            self._sessions,
            self._internal,
            self._nextcloud,
            self._backends,
            self._mcu,
            self._stats,
            self._limits,
            self._turn,
            self._federation,
            self._geoip,
        ):
            translate()
        self._remaining()
        self.text = str(self._file)

    # --- parts of sections

    def _note(self, text: str) -> None:
        self.notes.append(text)
        self._file.comment(text)

    def _set_number(self, key: str, section: str, option: str) -> None:
        number = self._conf.take_number(section, option)
        if number:
            self._file.set(key, number)

    def _set_list(
        self, key: str, values: list[str], section: str, option: str, is_valid: Callable[[str], bool]
    ) -> None:
        for value in values:
            if not is_valid(value):
                self._note(f"[{section}] {option}: {value} is not valid and was left out.")
        valid = [value for value in values if is_valid(value)]
        if valid:
            self._file.set(key, valid)

    def _secret(self, value: str, name: str, where: str) -> str:
        """Return a secret; in place of a missing one or a placeholder a new one, whose note ends with ``where``."""
        if value and not is_placeholder(value):
            return value
        problem = "is a placeholder" if value else "is missing"
        self._note(f"{name} {problem} in server.conf; this is a new secret.{where}")
        return self._new_secret()

    # --- sections

    def _http(self) -> None:
        conf, file = self._conf, self._file
        file.section("[http]")
        plain = conf.take("http", "listen").split()
        tls = conf.take("https", "listen").split()
        certificate, key = conf.take("https", "certificate"), conf.take("https", "key")
        if plain and tls:
            self._note(
                f"[https] listen = {' '.join(tls)} was left out: all addresses have TLS or none has. Let the reverse "
                "proxy do TLS, or replace `listen` by these addresses and set certificate and key."
            )
        if not plain and not tls:
            self._note("server.conf has no address to listen on; this is the default.")
            plain = ["127.0.0.1:8080"]
        self._set_list("listen", plain or tls, "http" if plain else "https", "listen", _is_listen_address)
        if tls and not plain and certificate and key:
            file.set("certificate", certificate)
            file.set("key", key)
        elif tls and not plain:
            self._note("[https] certificate or key is missing: set certificate and key here, or let a proxy do TLS.")
        proxies = conf.take_list("app", "trustedproxies")
        if not proxies:
            file.comment("The proxies that the Go server trusts by default; name only those that you have.")
        self._set_list("trusted_proxies", proxies or TRUSTED_PROXIES, "app", "trustedproxies", is_network)

    def _sessions(self) -> None:
        self._file.section("[sessions]")
        secret = self._conf.take("sessions", "hashkey")
        problem = session_secret_problem(secret)
        if problem:
            self._note(f"[sessions] hashkey {problem}; this is a new secret.")
        self._file.set("secret", self._new_secret() if problem else secret)

    def _internal(self) -> None:
        secret = self._conf.take("clients", "internalsecret")
        self._file.section("[internal]")
        if secret:
            where = " Give it to the internal clients, too (recording, SIP bridge)."
            self._file.set("secret", self._secret(secret, "internalsecret", where))

    def _nextcloud(self) -> None:
        conf = self._conf
        self._file.section("[nextcloud]")
        self._set_number("timeout", "backend", "timeout")
        self._set_number("connections_per_host", "backend", "connectionsperhost")
        if conf.take_flag("backend", "allowall"):
            self._note("allow_any accepts every Nextcloud that knows the secret: for tests only.")
            self._file.set("allow_any", True)
            secret = conf.take("backend", "secret")
            self._file.set("secret", self._secret(secret, "[backend] secret", ENTER_IN_TALK))

    def _backends(self) -> None:
        conf = self._conf
        shared = conf.take("backend", "secret")
        allowed, allow_http = conf.take_list("backend", "allowed"), conf.take_flag("backend", "allowhttp")
        ids = list(dict.fromkeys(conf.backend_sections()))
        conf.take("backend", "backends")
        known_urls: set[str] = set()
        if conf.take_flag("backend", "allowall"):
            if ids:
                self._note(f"[backend] backends was left out ({', '.join(ids)}): allowall accepts every Nextcloud.")
            conf.used |= {(id, option) for id in ids for option in conf.options(id)}
            return
        written = 0
        for id in ids:
            urls = [*conf.take_list(id, "urls"), *conf.take_list(id, "url")]
            written += self._backend(id, urls, conf.take(id, "secret") or shared, id, known_urls)
        if not ids and allowed:
            hosts = [host.partition("/")[0] for host in allowed]
            schemes = ("https", "http") if allow_http else ("https",)
            urls = [f"{scheme}://{host}/" for host in hosts for scheme in schemes]
            written += self._backend("allowed", urls, shared, "backend", known_urls)
        if not written:
            self._file.section("[[backend]]")
            self._note("server.conf names no backend. This is an example: write the URL of your Nextcloud here.")
            self._file.set("id", "cloud")
            self._file.set("urls", [EXAMPLE_URL])
            self._file.set("secret", self._secret(shared, "[backend] secret", ENTER_IN_TALK))

    def _backend(self, id: str, urls: list[str], secret: str, section: str, known_urls: set[str]) -> bool:
        """Add a backend; return whether it has a URL."""
        conf, file = self._conf, self._file
        usable, notes = [], []
        for url in urls:
            problem = _url_problem(url, known_urls)
            if problem:
                notes.append(f"[{section}] url {url} was left out: {problem}.")
            else:
                usable.append(url)
                known_urls.add(canonical(url))
        limits = {
            "session_limit": conf.take_number(section, "sessionlimit"),
            "max_stream_bitrate": conf.take_number(section, "maxstreambitrate"),
            "max_screen_bitrate": conf.take_number(section, "maxscreenbitrate"),
        }
        if not usable:
            notes.append(f"The backend {id} has no usable URL and was left out.")
        file.section("[[backend]]" if usable else "")
        for note in notes:
            self._note(note)
        if not usable:
            return False
        file.set("id", f"{id}-backend" if id == COMPAT else id)
        file.set("urls", usable)
        file.set("secret", self._secret(secret, f"[{section}] secret", ENTER_IN_TALK))
        for key, limit in limits.items():
            if limit:
                file.set(key, limit)
        return True

    def _mcu(self) -> None:
        conf, file = self._conf, self._file
        type, url = conf.take("mcu", "type").lower(), conf.take("mcu", "url")
        type = type or ("janus" if url else "")
        is_janus = type == "janus" and url.startswith(("ws://", "wss://"))
        file.section("[mcu]")
        if is_janus:
            file.set("type", "janus")
        elif type == "proxy":
            self._note(
                f'[mcu] type = proxy, url = {url}: there are no SFU proxies. Set type = "janus" and add a '
                "[[mcu.janus]] with the url of each Janus that the proxies use."
            )
        elif url:
            self._note(
                f"[mcu] url {url} is not the URL of a Janus and was left out: it must begin with ws:// or wss://."
            )
        else:
            file.set("type", "none", "No SFU: clients connect to each other.")
        self._set_number("timeout", "mcu", "timeout")
        self._set_number("max_stream_bitrate", "mcu", "maxstreambitrate")
        self._set_number("max_screen_bitrate", "mcu", "maxscreenbitrate")
        for key, option in (("allowed_candidates", "allowedcandidates"), ("blocked_candidates", "blockedcandidates")):
            self._set_list(key, conf.take_list("mcu", option), "mcu", option, is_network)
        if conf.take_flag("app", "allowsubscribeany"):
            file.set("allow_subscribe_any", True)
        if is_janus:
            file.section("[[mcu.janus]]")
            file.set("url", url)

    def _stats(self) -> None:
        self._file.section("[stats]")
        allowed = self._conf.take_list("stats", "allowed_ips")
        self._set_list("allowed", allowed, "stats", "allowed_ips", is_network)

    def _limits(self) -> None:
        self._file.section("[limits]")
        self._set_number("http_read_timeout", "http", "readtimeout")

    def _turn(self) -> None:
        conf, file = self._conf, self._file
        key, secret, servers = (
            conf.take("turn", "apikey"),
            conf.take("turn", "secret"),
            conf.take_list("turn", "servers"),
        )
        file.section("[turn]")
        if not servers:
            if key or secret:
                self._note("[turn] apikey and secret were left out: there are no servers.")
            return
        file.set("api_key", self._secret(key, "[turn] apikey", " Give it to Janus, which requests the credentials."))
        file.set("secret", self._secret(secret, "[turn] secret", " Give it to the TURN servers (static-auth-secret)."))
        self._set_list("servers", servers, "turn", "servers", _is_turn_uri)

    def _federation(self) -> None:
        self._file.section("[federation]")
        self._set_number("timeout", "federation", "timeout")

    def _geoip(self) -> None:
        conf, file = self._conf, self._file
        file.section("[geoip]")
        url, licence = conf.take("geoip", "url"), conf.take("geoip", "license")
        if not is_path_or_url(url):
            self._note(f"[geoip] url {url} is not valid and was left out.")
        elif url not in ("", "default", "none"):
            file.set("database", url)
        if licence not in ("", "default", "none"):
            file.set("license_key", licence)
        overrides = {key: conf.take("geoip-overrides", key) for key in conf.options("geoip-overrides")}
        valid = {key: code for key, code in overrides.items() if is_network(key) and _country_code.fullmatch(code)}
        for key in overrides.keys() - valid.keys():
            self._note(f"[geoip-overrides] {key} = {overrides[key]} is not valid and was left out.")
        if valid:
            file.set("overrides", valid)

    def _remaining(self) -> None:
        """Add a note for each option that no other method has translated."""
        conf, file = self._conf, self._file
        heading = "Not taken over from server.conf:"
        for section in conf.sections():
            for option in conf.options(section):
                value = conf.text(section, option)
                if (section, option) in conf.used or value.lower() in DEFAULTS.get((section, option), set()):
                    continue
                if section not in NO_EQUIVALENT and section not in TRANSLATED_SECTIONS:
                    why = "the section is unknown, or that of a backend that is not listed"
                else:
                    why = reason(section, option)
                if heading:
                    file.section("")
                    file.blank()
                    file.comment(heading)
                    heading = ""
                self._note(f"[{section}] {option} = {comment_value(option, value)}: {why}.")


def _is_listen_address(text: str) -> bool:
    try:
        listen_address(text)
    except ValueError:
        return False
    return True


def _is_turn_uri(text: str) -> bool:
    return text.startswith(("turn:", "turns:", "stun:", "stuns:"))


def _url_problem(url: str, known_urls: set[str]) -> str:
    try:
        base = canonical(url)
    except ValueError as error:
        return str(error)
    return "another backend has it" if base in known_urls else ""
