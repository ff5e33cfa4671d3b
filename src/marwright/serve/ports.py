"""The five loopback ports of one TorchServe, and whether they are free."""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, fields

from marwright.recipe.errors import ServeError

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, kw_only=True, slots=True)
class Ports:
    """TCP ports on 127.0.0.1: three speak HTTP, two gRPC."""

    inference: int
    management: int
    metrics: int
    grpc_inference: int
    grpc_management: int

    @classmethod
    def following(cls, base: int) -> Ports:
        """Take the five ports from `base` on, so that two servers five apart never collide.

        Raises `ServeError` when they do not fit below 65536.
        """
        if not 1 <= base <= 65535 - 4:
            raise ServeError(
                f"port {base}: choose one from 1 to {65535 - 4}; five are used from it"
            )
        return cls(
            inference=base,
            management=base + 1,
            metrics=base + 2,
            grpc_inference=base + 3,
            grpc_management=base + 4,
        )

    @classmethod
    def configured(cls, settings: Mapping[str, str]) -> Ports:
        """Read the ports that a TorchServe configuration names. Raises `ServeError`."""
        return cls(
            inference=_address(settings, "inference_address", 8080),
            management=_address(settings, "management_address", 8081),
            metrics=_address(settings, "metrics_address", 8082),
            grpc_inference=_number(settings, "grpc_inference_port", 7070),
            grpc_management=_number(settings, "grpc_management_port", 7071),
        )

    def settings(self) -> dict[str, str]:
        """Return the configuration keys that bind these ports to the loopback interface."""
        return {
            "inference_address": f"http://{LOOPBACK}:{self.inference}",
            "management_address": f"http://{LOOPBACK}:{self.management}",
            "metrics_address": f"http://{LOOPBACK}:{self.metrics}",
            "grpc_inference_address": LOOPBACK,
            "grpc_inference_port": str(self.grpc_inference),
            "grpc_management_address": LOOPBACK,
            "grpc_management_port": str(self.grpc_management),
        }

    def named(self) -> dict[str, int]:
        """Return the port of every purpose."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def require_free(ports: Ports) -> None:
    """Raise `ServeError` naming every port that is in use, its purpose and its owner if known.

    Asked before a start, because TorchServe itself says it with a stack trace, after it has
    loaded every archive.
    """
    taken = [
        f"  {port} ({purpose.replace('_', ' ')}){_owner(port)}"
        for purpose, port in ports.named().items()
        if not is_free(port)
    ]
    if taken:
        raise ServeError(
            "in use on this machine:\n" + "\n".join(taken) + "\n"
            "Stop what listens there (`make stop` for our own server), or choose five other ports "
            "with `make serve PORT=9080`."
        )


def is_free(port: int) -> bool:
    """Whether a server can listen on the port of the loopback interface now.

    A port that may not be bound (below 1024, for most people) counts as free: TorchServe will
    give the real reason.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As the JVM does: connections of a server that has just stopped do not block the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            return error.errno != errno.EADDRINUSE
    return True


def free_ports(count: int = 5) -> int:
    """Return the first of `count` free ports in a row on the loopback interface.

    Below the range that the system gives to outgoing connections, so that none is taken meanwhile.
    """
    import random

    while True:
        base = random.randrange(20_000, 32_000)
        if all(is_free(base + offset) for offset in range(count)):
            return base


def _owner(port: int) -> str:
    """The process that listens on a port, as far as the system tells us."""
    import psutil

    try:
        for connection in psutil.net_connections(kind="tcp"):
            listens = connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,)
            if listens and connection.pid is not None:
                return f" by pid {connection.pid}, {psutil.Process(connection.pid).name()}"
    except psutil.Error:
        pass  # macOS keeps other people's sockets from us; the port alone is still true
    return ""


def _address(settings: Mapping[str, str], key: str, default: int) -> int:
    value = settings.get(key, f"http://{LOOPBACK}:{default}")
    found = re.fullmatch(r"https?://[^:/]+:(\d+)/?", value)
    if found is None:
        raise ServeError(f"config.properties: {key}: {value!r} is not like http://127.0.0.1:8080")
    return int(found[1])


def _number(settings: Mapping[str, str], key: str, default: int) -> int:
    value = settings.get(key, str(default))
    if not value.isdecimal():
        raise ServeError(f"config.properties: {key}: {value!r} is not a port number")
    return int(value)
