"""Ports: taken before anything is loaded, listened on once it is."""

from __future__ import annotations

import socket


def bind(address: str, port: int) -> socket.socket:
    """Reserve a port without accepting on it yet: clients are refused until the server starts.

    Raises:
        OSError: The port is taken or not allowed.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    reserved = socket.socket(family, socket.SOCK_STREAM)
    try:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind((address, port))
    except OSError as error:
        reserved.close()
        raise OSError(f"REST cannot listen on {address}:{port}: {error.strerror}.") from None
    return reserved
