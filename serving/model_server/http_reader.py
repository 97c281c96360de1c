"""The bytes of one HTTP/1.1 connection to requests: httptools, and bounds on what it is given.

llhttp, which httptools is made of, is strict: it refuses two lengths, a length and chunks together, signs, folded lines
and line ends without a carriage return, so that no proxy in front can see other requests than this server does. What it
lets through and should not is refused here: chunks in HTTP/1.0, and codings of the transfer other than chunks.
"""

from __future__ import annotations

import enum
from typing import TypeAlias

import httptools

from serving.model_server.http_messages import CLOSES, STAYS, STAYS_OLD, Application, Request, Response

MAX_HEAD_BYTES = 1 << 16
_KEPT = (b"content-length", b"transfer-encoding", b"content-encoding", b"expect")  # of a request for an upgrade

Read: TypeAlias = tuple[Request | Response, bytes]
"""A request, or the answer to what is none; with what the answer says about the connection."""


class Part(enum.Enum):
    """What a connection is in the middle of sending."""

    NOTHING, HEAD, BODY = range(3)


class Reader:
    """Reads what a client sends, until the last request or what is no request."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._parser = httptools.HttpRequestParser(self)
        self._read: list[Read] = []
        self._head_bytes = 0
        self._plain_head = b""
        self.done = False  # what follows is not read
        self.count = 0  # requests begun
        self._begin()

    def _begin(self) -> None:
        self._begun = False
        self._in_head = True
        self._url = self._encoding = self._coding = self._kept = b""
        self._body: bytes | bytearray = b""
        self._head_size = 0
        self.expects = False  # whether the client waits to be told that it may send the body
        self._refused: Response | None = None

    @property
    def part(self) -> Part:
        return Part.NOTHING if not self._begun else Part.HEAD if self._in_head else Part.BODY

    def feed(self, data: bytes) -> list[Read]:
        """What is complete with these bytes."""
        if self._in_head:
            self._head_bytes += len(data)
        while data and not self.done:
            try:
                self._parser.feed_data(data)
                data = b""
            except httptools.HttpParserUpgrade as upgrade:
                # The parser takes what follows for another protocol. Another one reads it as if nobody had asked.
                data = self._plain_head + data[upgrade.args[0] :]
                self._parser = httptools.HttpRequestParser(self)
            except httptools.HttpParserError as error:
                self.end(self._refused or self._application.refuse(400, f"This is not HTTP: {error}"))
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES:
            self.end(self._head_too_large())
        read, self._read = self._read, []
        return read

    def end(self, response: Response) -> None:
        """Read no more; `response` is the last answer."""
        if not self.done:
            self._begin()
            self._read.append((response, CLOSES))
            self.done = True

    def close(self) -> None:
        """Read no more."""
        self.done = True
        self._begin()
        del self._parser  # it knows this reader, which would be garbage for long

    # The parser. An error raised here ends the parsing; `_refused` is then the answer.

    def on_message_begin(self) -> None:
        self._begin()
        self._begun = True
        self.count += 1

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._count(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(name, value)
        if not self._in_head:
            return  # a trailer, which may not change what the head said
        kind = name.lower()
        if kind == b"content-length":
            if value.isdigit() and int(value) > self._application.max_body_bytes:
                self._refused = self._body_too_large()
        elif kind == b"content-encoding":
            self._encoding = value.strip().lower()
        elif kind == b"transfer-encoding":
            self._coding = value.strip().lower()
        elif kind == b"expect":
            self.expects = value.strip().lower() == b"100-continue"
        if kind in _KEPT:
            self._kept += b"%b: %b\r\n" % (name, value)

    def on_headers_complete(self) -> None:
        self._in_head, self._head_bytes = False, 0
        modern = self._parser.get_http_version() == "1.1"
        if self._coding and not modern:
            self._refused = self._application.refuse(400, "Transfer-Encoding is not part of HTTP/1.0.")
        elif self._coding and self._coding != b"chunked":
            self._refused = self._application.refuse(400, "The only Transfer-Encoding understood is chunked.")
        if self._refused is not None:
            raise ValueError  # its body is not waited for
        self.expects = self.expects and modern

    def on_body(self, chunk: bytes) -> None:
        self.expects = False
        if len(self._body) + len(chunk) > self._application.max_body_bytes:
            self._refused = self._body_too_large()
            raise ValueError
        if not self._body:
            self._body = chunk
        else:
            # Not a list of them: chunks of a few bytes would take many times their size.
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)
            self._body += chunk

    def on_message_complete(self) -> None:
        method = self._parser.get_method()
        stays = self._parser.should_keep_alive()
        self._plain_head = b""
        if self._parser.should_upgrade() and method != b"CONNECT":
            kept = self._kept if stays else self._kept + CLOSES
            self._plain_head = b"%b %b HTTP/1.1\r\n%b\r\n" % (method, self._url, kept)
            return
        path, _, _ = self._url.partition(b"?")
        if not path.startswith(b"/"):
            try:
                path = httptools.parse_url(self._url).path or b"/"
            except httptools.HttpParserInvalidURLError:
                path = b""
        request = Request(method.decode("latin-1"), path.decode("latin-1"), bytes(self._body), self._encoding)
        self.done = not stays
        modern = self._parser.get_http_version() == "1.1"
        self._read.append((request, CLOSES if not stays else STAYS if modern else STAYS_OLD))
        self._begin()

    def _count(self, *parts: bytes) -> None:
        self._head_size += sum(map(len, parts))
        if self._head_size > MAX_HEAD_BYTES:
            self._refused = self._head_too_large()
            raise ValueError

    def _head_too_large(self) -> Response:
        return self._application.refuse(431, f"The head of a request is larger than {MAX_HEAD_BYTES} bytes.")

    def _body_too_large(self) -> Response:
        return self._application.refuse(413, f"The body is larger than {self._application.max_body_bytes} bytes.")
