"""kafka-python's clients: how they are opened, how long they may take, and what their errors mean."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from kafka.errors import AuthorizationError, KafkaError, KafkaTimeoutError
from kafka.net.compat import KafkaNetClient

from zk_autograd.errors import EventLogError
from zk_autograd.eventlog.kafka_config import KafkaConfig

T = TypeVar("T")

# The client reports every lost connection, often with a stack trace, to whoever listens. What matters reaches the
# caller as an error; the rest stays here (getLogger("kafka").propagate = True brings it back).
logging.getLogger("kafka").setLevel(logging.WARNING)
logging.getLogger("kafka").propagate = False

# Parts of reasons that stay as they are, however often the client tries again (which might lock an account).
_FINAL = ("SaslAuthenticationFailed", "UnsupportedSaslMechanism", "CERTIFICATE_VERIFY_FAILED", "ALERT", "X509", "PEM")


class _Reasons(logging.Handler):
    """Why connections failed while a client was being opened: its error only says that it could not.

    ``hopeless`` is set once there were as many lasting failures as there are servers: trying again would not help.
    """

    def __init__(self, servers: int) -> None:
        super().__init__()
        self.found: dict[str, None] = {}
        self.hopeless = threading.Event()
        self._chances = servers

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if message.startswith(("Bootstrap connection to", "Bootstrap attempt to")):
            reason = message.partition(" failed: ")[2].rpartition(" (backoff")[0]
            self.found[reason[:300]] = None
            if any(word in reason for word in _FINAL):
                self._chances -= 1
                if self._chances <= 0:
                    self.hopeless.set()


def open_client(factory: Callable[..., T], config: KafkaConfig, **options: Any) -> T:
    """A client that has reached the cluster.

    Raises:
        EventLogError: none of the brokers could be reached or would have us, and why.
    """
    reasons = _Reasons(len(config.servers))
    networks: list[KafkaNetClient] = []

    def network(**settings: Any) -> KafkaNetClient:
        networks.append(KafkaNetClient(**settings))
        return networks[-1]

    manager_log = logging.getLogger("kafka.net.manager")
    manager_log.addHandler(reasons)
    try:
        settings = config.client(**options, kafka_client=network)
        return bounded(lambda: factory(**settings), 2 * config.connect_timeout, reasons.hopeless)
    except (KafkaError, OSError, ValueError) as error:
        # A client that was never finished leaves its thread and its sockets behind.
        for started in networks:
            with suppress(KafkaError):
                bounded(started.close, 2.0)
        raise EventLogError(_why_unreachable(config, list(reasons.found) or [str(error)])) from None
    finally:
        manager_log.removeHandler(reasons)


def _why_unreachable(config: KafkaConfig, reasons: list[str]) -> str:
    servers = ",".join(config.servers)
    protocol = config.security.get("security_protocol", "PLAINTEXT")
    text = "; ".join(reasons)
    if "SaslAuthenticationFailed" in text:
        hint = "the user or the password is wrong"
    elif "UnsupportedSaslMechanism" in text:
        hint = f"the broker does not offer sasl_mechanism={config.security.get('sasl_mechanism')}"
    elif "CERTIFICATE_VERIFY_FAILED" in text:
        hint = "the broker's certificate does not hold under ssl_cafile, or is for another host"
    elif "ALERT" in text:
        hint = "the broker refuses the client's certificate (ssl_certfile, ssl_keyfile), or wants one"
    elif "refused" in text.lower():
        hint = "nothing listens there: is the broker up, and are host and port right?"
    elif "PEM" in text or "X509" in text or "KEY_VALUES_MISMATCH" in text:
        hint = "ssl_cafile, ssl_certfile or ssl_keyfile is not in PEM form, or ssl_password is wrong"
    elif "SASL" in protocol and "disconnected" in text:
        hint = (
            f"it hangs up: the user, the password or sasl_mechanism={config.security.get('sasl_mechanism')} is wrong, "
            f"or this port does not speak {protocol}"
        )
    elif "SSL" in text or "disconnected" in text or "InvalidReceive" in text:
        hint = f"the listener at this port may not speak security_protocol={protocol}, or wants a user and a password"
    else:
        hint = "is it up, and are host, port, user, password and certificates right?"
    return f"cannot use the Kafka cluster at {servers} (connect_timeout {config.connect_timeout:g} s): {hint} ({text})"


@contextmanager
def explained(doing: str) -> Iterator[None]:
    """Turns the client's errors into EventLogError: while ``doing``, this went wrong."""
    try:
        yield
    except KafkaError as error:
        raise EventLogError(f"{doing}: {meaning(error)}") from None


def meaning(error: BaseException) -> str:
    """One line in the operator's words, with the client's own at its end."""
    name, text = type(error).__name__, str(error)
    text = (text if name in text else f"{name}: {text}")[:300].replace("\n", " ")
    if isinstance(error, AuthorizationError):
        return f"the cluster's access rules do not allow it: ask for the right ({text})"
    if isinstance(error, KafkaTimeoutError) or name in ("NodeNotReadyError", "RequestTimedOutError"):
        return f"no answer from the cluster in time: is it up and reachable? ({text})"
    return text


def bounded(call: Callable[[], T], seconds: float, enough: threading.Event | None = None) -> T:
    """``call``'s result, or KafkaTimeoutError after ``seconds``, or as soon as ``enough`` is set.

    For the client's calls that wait for ever when the brokers have gone. The call then lives on in its thread, until
    its client is closed or the process ends.
    """
    outcome: list[T] = []
    failure: list[BaseException] = []
    over = enough or threading.Event()

    def run() -> None:
        try:
            outcome.append(call())
        except BaseException as error:  # handed to the caller below
            failure.append(error)
        finally:
            over.set()

    threading.Thread(target=run, daemon=True, name="kafka-call").start()
    over.wait(seconds)
    if failure:
        raise failure[0]
    if not outcome:
        raise KafkaTimeoutError(f"no answer within {seconds:g} s")
    return outcome[0]


class Lifeline:
    """Tells a quiet topic from a dead cluster: the consumer's poll returns nothing in either case."""

    def __init__(self, ask: Callable[[], object], patience: float) -> None:
        """``ask`` is a question that any working cluster answers; it is put after ``patience`` silent seconds."""
        self._ask = ask
        self._patience = patience
        self._ask_next = time.monotonic() + patience

    def heard(self) -> None:
        """The cluster has just sent something."""
        self._ask_next = time.monotonic() + self._patience

    def check(self) -> None:
        """Raises EventLogError if nothing was heard for long and the cluster does not answer."""
        if time.monotonic() >= self._ask_next:
            with explained("reading"):
                self._ask()
            self.heard()
