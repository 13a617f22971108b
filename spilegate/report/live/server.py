"""A server of three paths for those who watch: it only ever reads, and no client can hold it up or fill it."""

from __future__ import annotations

import contextlib
import io
import ipaddress
import re
import socket
import socketserver
import threading
import time
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any

from spilegate.errors import InputError
from spilegate.report.live.watched import Answer, Watched

# Clients that are heard at once; more are told to come back.
MOST_CLIENTS = 64
# Seconds in which a client has to have asked, and in which it has to have taken what it is sent.
TO_ASK, TO_TAKE = 5.0, 60.0
# Bytes of a request, headers included.
MOST_ASKED = 16384
ALLOWED = "GET, HEAD"
# A name or address, in brackets where it has colons, and a port.
HOST = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([^:\[\]]+))(?::\d{1,5})?")
# Beside the page's own policy, which names its programs.
SECURITY = {
    "Content-Security-Policy": "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class _Bounded(io.RawIOBase):
    """What a client sends, up to MOST_ASKED bytes and for TO_ASK seconds in all, however slowly it comes."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._until = time.monotonic() + TO_ASK
        self._left = MOST_ASKED

    def readable(self) -> bool:
        """Return that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read some bytes; raise TimeoutError when there was enough of it."""
        left = self._until - time.monotonic()
        if left <= 0 or self._left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        count = self._connection.recv_into(memoryview(buffer)[: self._left])
        self._left -= count
        return count


class _Handler(BaseHTTPRequestHandler):
    """Answers one request of one connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "spilegate", ""

    def setup(self) -> None:
        """Read from the client within bounds."""
        super().setup()
        self.rfile = io.BufferedReader(_Bounded(self.connection), 4096)

    def handle(self) -> None:
        """Answer one request, whatever the client does meanwhile."""
        self.close_connection = True
        try:
            self.handle_one_request()
        except (OSError, ValueError, UnicodeError):
            # A client that has gone, or that has sent what is no request at all.
            self.close_connection = True

    def do_GET(self) -> None:
        """Send what is asked for."""
        self._reply(body=True)

    def do_HEAD(self) -> None:
        """Send the headers of what is asked for."""
        self._reply(body=False)

    def _reply(self, *, body: bool) -> None:
        """Send an answer, or that the client has it already."""
        if self.request_version == "HTTP/0.9" or not self.server.knows(self.headers.get_all("Host") or []):
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST)
            return
        answer = self.server.watched.answer(self.path.partition("?")[0])
        if answer is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        known = re.findall(r'"([0-9a-f]{20})"', self.headers.get("If-None-Match") or "")
        small = bool(re.search(r"\bgzip\b(?!\s*;\s*q=0(\.0*)?\s*(,|$))", self.headers.get("Accept-Encoding") or ""))
        self._send(answer, unchanged=answer.tag in known, small=small, body=body)

    def _send(self, answer: Answer, *, unchanged: bool, small: bool, body: bool) -> None:
        """Send headers and bytes."""
        content = answer.small if small else answer.plain
        self.send_response(HTTPStatus.NOT_MODIFIED if unchanged else HTTPStatus.OK)
        self.send_header("ETag", f'"{answer.tag}"')
        self.send_header("Vary", "Accept-Encoding")
        if not unchanged:
            self.send_header("Content-Type", answer.kind)
            self.send_header("Content-Length", str(len(content)))
            if small:
                self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        if body and not unchanged:
            self.connection.settimeout(TO_TAKE)
            self.wfile.write(content)

    def end_headers(self) -> None:
        """Add the headers that everything has."""
        for name, value in {"Cache-Control": "no-cache", "Connection": "close", **SECURITY}.items():
            self.send_header(name, value)
        super().end_headers()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002
        """Send an error in one line; nothing of what was asked is repeated in it."""
        status = HTTPStatus(code)
        if status == HTTPStatus.NOT_IMPLEMENTED:
            status = HTTPStatus.METHOD_NOT_ALLOWED
        content = f"{status.value} {status.phrase}\n".encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", ALLOWED)
        self.end_headers()
        self.connection.settimeout(TO_TAKE)
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing: nobody reads it, and what clients send is theirs to choose."""


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Serves a folder on an address, a thread for each client, MOST_CLIENTS at once.

    host : name or address to be reached at; port : 0 for any that is free
    Raises InputError if that cannot be had.
    """

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, watched: Watched, host: str, port: int) -> None:
        self.watched = watched
        self._places = threading.BoundedSemaphore(MOST_CLIENTS)
        self._names = _names(host)
        try:
            family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            self.address_family = family
            super().__init__((str(address[0]), port), _Handler)
        except (OSError, UnicodeError) as error:
            raise InputError(_refused(host, port, error)) from error

    @property
    def port(self) -> int:
        """Return the port it is reached at."""
        return int(self.server_address[1])

    def knows(self, hosts: Sequence[str]) -> bool:
        """Tell whether a request's one header `Host` names this computer.

        A page from elsewhere can make its own name mean this computer's address, and its reader's browser would let it
        read what is here; but then the header has that name. An address in it cannot be made to mean another one.
        """
        found = (
            re.fullmatch(r"\[([0-9a-fA-F:.]+)\](?::\d{1,5})?|([^:\[\]]+)(?::\d{1,5})?", hosts[0])
            if len(hosts) == 1
            else None
        )
        if found is None:
            return False
        name = (found[1] or found[2]).lower().rstrip(".")
        return name in self._names or _is_address(name)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread of its own, unless there are too many already."""
        if not self._places.acquire(blocking=False):
            # It is told by the connection that ends, too.
            with contextlib.suppress(OSError):
                request.settimeout(0.2)
                request.sendall(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nConnection: close\r\n\r\n")
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:
            # There is no room for another thread.
            self._places.release()
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, then make room for another client."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of what goes wrong with one client."""


def _names(host: str) -> set[str]:
    """Return the names under which a server on this host is asked for."""
    names = {"localhost", host.lower().rstrip(".")}
    if not (_is_address(host) and ipaddress.ip_address(host).is_loopback):
        names |= {socket.gethostname().lower(), socket.getfqdn().lower()}
    return names


def _is_address(name: str) -> bool:
    """Tell whether a name is an address in numbers."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _refused(host: str, port: int, error: Exception) -> str:
    """Return why an address cannot be had, and what to do."""
    reason = getattr(error, "strerror", None) or error
    if isinstance(error, socket.gaierror | UnicodeError):
        return f"--host {host[:80]}: no name or address of this computer ({reason}); expected one; 127.0.0.1 is usual"
    return f"--port {port} on {host}: {reason}; expected a free port that you may use; try --port 0 for any, or another"
