"""Ports: taken before anything is loaded, listened on once it is; and which addresses other machines reach."""

from __future__ import annotations

import ipaddress
import socket


def bind(address: str, port: int, who: str) -> socket.socket:
    """Reserve a port without accepting on it yet: clients are refused until the server starts.

    Two that reserve one port at the same time both succeed; the second to listen on it gets the error then.

    Args:
        address: Of IPv4 or IPv6, or a name that stands for one of IPv4.
        port: 0 for any free one.
        who: Begins the sentence of an error: "REST cannot listen on ...".

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
        raise OSError(f"{who} cannot listen on {host_and_port(address, port)}: {error.strerror}.") from None
    return reserved


def host_and_port(address: str, port: int) -> str:
    """`host:port` as URLs and gRPC write it."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches the address. A name other than `localhost` may lead anywhere."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def is_another_site(origin: bytes | None, host: bytes) -> bool:
    """Whether a request was sent by a page of another site than the one that is asked.

    Args:
        origin: The Origin header, which browsers send with whatever may change something; None where there is none.
        host: The Host header.
    """
    return origin is not None and origin.partition(b"://")[2].lower() != host.lower()


def names_an_address(host: bytes) -> bool:
    """Whether a Host header is localhost or an address, or none: any other name may be that of a site whose owner lets
    it lead to this machine (DNS rebinding), so that its pages may read what is answered."""
    name = host.decode("latin-1").rpartition(":")[0] if host.rpartition(b":")[2].isdigit() else host.decode("latin-1")
    if name.lower() in ("", "localhost"):
        return True
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True
