"""What a ``kafka://`` URL says, and nothing else: only the options named here reach the client.

``kafka://host:port[,host:port]``, with the parameters (times in seconds):

* ``topic_prefix`` (``zk.``): stands before every topic, group and transactional id on the cluster;
* ``replication``: replicas of topics that are created (3, or as many as there are brokers);
* ``session_timeout`` (10), ``request_timeout`` (15), ``connect_timeout`` (10);
* ``security_protocol`` (``PLAINTEXT``; ``SSL``, ``SASL_PLAINTEXT``, ``SASL_SSL``), ``sasl_mechanism``
  (``SCRAM-SHA-512``, ``SCRAM-SHA-256``, ``PLAIN``), ``sasl_plain_username``;
* ``ssl_cafile``, ``ssl_certfile``, ``ssl_keyfile`` (PEM), ``ssl_check_hostname`` (``true``);
* ``config=FILE``: a JSON or TOML file with any of these names, and with the two secrets.

The secrets ``sasl_plain_password`` and ``ssl_password`` (of the key file) come from the configuration file or, if it
has none, from the environment (``ZK_KAFKA_SASL_PASSWORD``, ``ZK_KAFKA_SSL_PASSWORD``), never from the URL: a command
line is public.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from zk_autograd.errors import UsageError
from zk_autograd.eventlog.topics import check_name

_SERVER = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")
_MAX_CONFIG_BYTES = 64 * 1024
_ENVIRONMENT = {"sasl_plain_password": "ZK_KAFKA_SASL_PASSWORD", "ssl_password": "ZK_KAFKA_SSL_PASSWORD"}


class Secret(str):
    """A password: the text itself for who uses it, stars for who prints a structure that holds it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


@dataclass(frozen=True)
class KafkaConfig:
    """A checked configuration.

    Attributes:
        url: as given; it holds no secret.
        servers: ``host:port`` of the brokers to ask first.
        security: the client's ``security_protocol``, ``sasl_*`` and ``ssl_*`` options.
    """

    url: str
    servers: tuple[str, ...]
    topic_prefix: str = "zk."
    replication: int | None = None
    session_timeout: float = 10.0
    request_timeout: float = 15.0
    connect_timeout: float = 10.0
    security: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def parse(cls, url: str) -> KafkaConfig:
        """Raises UsageError, without the URL in its message where that might hold a password."""
        servers, parameters = _split(url)
        settings: dict[str, object] = dict(parameters)
        if "config" in parameters:
            file = parameters["config"]
            del settings["config"]
            for name, value in _load(Path(file)).items():
                if name in settings:
                    raise UsageError(f"{name} is given twice: in the URL and in {file}")
                settings[name] = value
        for name, variable in _ENVIRONMENT.items():
            if name not in settings and variable in os.environ and _wants(settings, name):
                settings[name] = os.environ[variable]
        checked = {name: _check(name, value) for name, value in settings.items()}
        own = {name: checked.pop(name) for name in list(checked) if name in cls.__dataclass_fields__}
        _check_security(checked, servers)
        return cls(url, servers, **own, security=checked)

    def client(self, **options: Any) -> dict[str, Any]:
        """The options of one client: those of every client, and ``options``."""
        milliseconds = int(self.request_timeout * 1000)
        return {
            "bootstrap_servers": list(self.servers),
            "bootstrap_timeout_ms": int(self.connect_timeout * 1000),
            "request_timeout_ms": milliseconds,
            # Transactions wait for the one before to be finished on the brokers, in steps of this length.
            "retry_backoff_ms": 20,
            "reconnect_backoff_max_ms": 2000,
            **self.security,
            **options,
        }


def _split(url: str) -> tuple[tuple[str, ...], dict[str, str]]:
    try:
        parts = urlsplit(url)
    except ValueError:
        raise UsageError("expected kafka://host:port[,host:port], got a URL with unmatched brackets") from None
    if "@" in parts.netloc:
        raise UsageError(
            "a kafka:// URL takes no user and password before the host: give sasl_plain_username=, and the password "
            f"in the file of config= or in the environment as {_ENVIRONMENT['sasl_plain_password']}"
        )
    servers = tuple(parts.netloc.split(","))
    for server in servers:
        match = _SERVER.fullmatch(server)
        if not match or not 0 < int(match[2]) < 65536:
            raise UsageError(f"expected kafka://host:port[,host:port], got {server!r} for a host and port")
    if parts.path not in ("", "/") or parts.fragment:
        raise UsageError(f"expected nothing but ?parameters after kafka://{parts.netloc}, got a path or a fragment")
    parameters: dict[str, str] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name in _ENVIRONMENT:
            raise UsageError(
                f"{name} does not belong in a URL, which other users can see: put it into the file of config=, "
                f"or into the environment as {_ENVIRONMENT[name]}"
            )
        if name in parameters:
            raise UsageError(f"the parameter {name} is given twice in the kafka:// URL")
        parameters[name] = value
    return servers, parameters


def _load(path: Path) -> dict[str, object]:
    """The settings in a JSON or TOML file. Messages name the file and never quote it: it holds secrets."""
    try:
        with path.open("rb") as stream:
            text = stream.read(_MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise UsageError(f"cannot read the configuration {path}: {error.strerror}") from None
    if len(text) > _MAX_CONFIG_BYTES:
        raise UsageError(f"the configuration {path} has more than {_MAX_CONFIG_BYTES} bytes: is it the right file?")
    kind = "TOML" if path.suffix == ".toml" else "JSON"
    try:
        settings = tomllib.loads(text.decode()) if kind == "TOML" else json.loads(text)
    except (ValueError, RecursionError):
        raise UsageError(f"the configuration {path} is not valid {kind}") from None
    if not isinstance(settings, dict) or "config" in settings:
        raise UsageError(f"the configuration {path} is one table of settings: name = value")
    return settings


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise UsageError(f"{name} is a text that is not empty")
    return value


def _prefix(name: str, value: object) -> str:
    prefix = value if value == "" else _text(name, value)
    if prefix:
        check_name(str(prefix), name)
        if len(str(prefix)) > 40:
            raise UsageError(f"{name} has at most 40 characters")
    return str(prefix)


def _file(name: str, value: object) -> str:
    path = _text(name, value)
    if not Path(path).is_file():
        raise UsageError(f"{name}: there is no file {path}")
    return path


def _flag(name: str, value: object) -> bool:
    known = {"true": True, "false": False}
    text = str(value).lower() if isinstance(value, (str, bool)) else ""
    if text not in known:
        raise UsageError(f"{name} is true or false, got {value!r:.50}")
    return known[text]


def _seconds(name: str, value: object) -> float:
    try:
        seconds = float(value) if isinstance(value, (str, int, float)) else 0.0
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= 120:
        raise UsageError(f"{name} is 1 to 120 seconds, got {value!r:.50}")
    return seconds


def _replicas(name: str, value: object) -> int:
    text = str(value)
    if not text.isdecimal() or not 1 <= int(text) <= 100:
        raise UsageError(f"{name} is 1 to 100 replicas, got {text!r:.50}")
    return int(text)


def _one_of(*choices: str) -> Callable[[str, object], str]:
    def choose(name: str, value: object) -> str:
        if value not in choices:
            raise UsageError(f"{name} is one of {', '.join(choices)}; got {value!r:.50}")
        return str(value)

    return choose


_OPTIONS: Mapping[str, Callable[[str, object], Any]] = {
    "topic_prefix": _prefix,
    "replication": _replicas,
    "session_timeout": _seconds,
    "request_timeout": _seconds,
    "connect_timeout": _seconds,
    "security_protocol": _one_of("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"),
    "sasl_mechanism": _one_of("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"),
    "sasl_plain_username": _text,
    "sasl_plain_password": lambda name, value: Secret(_text(name, value)),
    "ssl_cafile": _file,
    "ssl_certfile": _file,
    "ssl_keyfile": _file,
    "ssl_password": lambda name, value: Secret(_text(name, value)),
    "ssl_check_hostname": _flag,
}


def _check(name: str, value: object) -> Any:
    if name not in _OPTIONS:
        raise UsageError(f"kafka:// has no option {name!r:.60}; it has config, {', '.join(_OPTIONS)}")
    return _OPTIONS[name](name, value)


def _wants(settings: Mapping[str, object], secret: str) -> bool:
    """Whether a secret that lies in the environment is meant for this cluster."""
    if secret == "ssl_password":  # noqa: S105
        return "ssl_certfile" in settings
    return "SASL" in str(settings.get("security_protocol"))


def _check_security(settings: Mapping[str, Any], servers: tuple[str, ...]) -> None:
    """Refuses settings that contradict each other: one that does nothing would be trusted to do something."""
    protocol = settings.get("security_protocol", "PLAINTEXT")
    for kind, needed in (("sasl_", "SASL_"), ("ssl_", "SSL")):
        given = [name for name in settings if name.startswith(kind)]
        if given and needed not in protocol:
            raise UsageError(
                f"{given[0]} has no effect with security_protocol={protocol}: "
                f"say security_protocol={'SASL_SSL' if kind == 'sasl_' else 'SSL or SASL_SSL'}"
            )
    if "SASL" in protocol:
        for name in ("sasl_mechanism", "sasl_plain_username", "sasl_plain_password"):
            if name not in settings:
                where = f", in the file of config= or as {_ENVIRONMENT[name]}" if name in _ENVIRONMENT else ""
                raise UsageError(f"security_protocol={protocol} needs {name}{where}")
    if protocol == "SASL_PLAINTEXT" and settings["sasl_mechanism"] == "PLAIN" and not all(map(_is_loopback, servers)):
        raise UsageError("PLAIN without TLS sends the password in the clear: use SASL_SSL, or a SCRAM mechanism")
    if ("ssl_keyfile" in settings or "ssl_password" in settings) and "ssl_certfile" not in settings:
        raise UsageError("ssl_keyfile and ssl_password need ssl_certfile, the client's certificate")


def _is_loopback(server: str) -> bool:
    host = server.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
