"""The page that browsers open: rerun's own files, under an address that people can type.

``http://robot:9090`` leads to the page with the address of its data, on the name by which the
browser reached this machine; a tunnel or another name so needs no option. The page may fetch
from here alone: as rerun serves it, it also sends statistics of its use to its makers, asks for
newer versions and takes a font from the net, which robots do not do, and often cannot.
"""

from __future__ import annotations

import fcntl
import ipaddress
import shutil
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.error import URLError
from urllib.parse import parse_qs, urlencode, urlsplit
from urllib.request import ProxyHandler, build_opener

from seg_perception.errors import ConfigurationError

ANYWHERE = {'0.0.0.0': '127.0.0.1', '::': '::1'}
"""Addresses that mean all of this machine, and what it calls itself there."""
_TIMEOUT_S = 30.0
_SIOCGIFADDR = 0x8915
"""Linux: the address of a network interface (netdevice(7))."""
_WITHIN_THIS_MACHINE = ('lo', 'docker', 'br-', 'virbr', 'veth')
"""Beginnings of the names of interfaces to itself, its containers and virtual machines."""
_PASSED_ON = ('Content-Type', 'Content-Length', 'rerun-final-length')
# A proxy that the environment names is for addresses elsewhere.
_opener = build_opener(ProxyHandler({}))


class Page:
    """Answers browsers until it is closed.

    Args:
        host: number of the address to listen on.
        port: of the page; 0 for any free one.
        data_port: of the data.
        assets_url: where rerun serves its files.

    Attributes:
        port: the page's.
        urls: where it is; the first one is for this machine.

    Raises:
        ConfigurationError: the address is not this machine's, or the port is taken.
    """

    def __init__(self, host: str, port: int, data_port: int, assets_url: str) -> None:
        self.port = free_port(host, port, '--port')
        self.urls = tuple(f'http://{bracketed(name)}:{self.port}' for name in _names_of(host))

        class Handler(_Handler):
            assets = assets_url
            port_of_data = data_port

        class Server(ThreadingHTTPServer):
            address_family = _family_of(host)
            daemon_threads = True

        self._server = Server((host, self.port), Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, name='page', daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stops answering."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    assets = ''
    port_of_data = 0

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        # A browser that went away in the middle is nobody's trouble.
        with suppress(ConnectionError):
            if asked.path == '/' and 'url' not in parse_qs(asked.query):
                self._lead_to_data()
            else:
                self._pass_on(asked.path)

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Nothing: who asked for what is not of interest."""

    def _lead_to_data(self) -> None:
        url = f'rerun+http://{bracketed(self._called())}:{self.port_of_data}/proxy'
        query = urlencode({'url': url, 'hide_welcome_screen': ''})
        self.send_response(302)
        self.send_header('Location', f'/?{query}')
        self.send_header('Content-Length', '0')
        self.end_headers()

    def _pass_on(self, path: str) -> None:
        try:
            answer = _opener.open(f'{self.assets}{path}', timeout=_TIMEOUT_S)
        except URLError as error:
            self.send_error(getattr(error, 'code', 502))
            return
        with answer:
            self.send_response(answer.status)
            for name in _PASSED_ON:
                if (value := answer.headers[name]) is not None:
                    self.send_header(name, value)
            data = f'http://{bracketed(self._called())}:{self.port_of_data}'
            self.send_header(
                'Content-Security-Policy',
                f"connect-src 'self' data: blob: {data}; style-src 'self' 'unsafe-inline'",
            )
            self.end_headers()
            if self.command != 'HEAD':
                shutil.copyfileobj(answer, self.wfile, 2**18)

    def _called(self) -> str:
        """What the browser calls this machine."""
        return urlsplit(f'//{self.headers["Host"]}').hostname or 'localhost'


def free_port(host: str, port: int, option: str = '') -> int:
    """The port, once it is known that it can be listened on; any free one for 0.

    Raises:
        ConfigurationError: the address is not this machine's, or the port is taken; names the
            option that chooses another one.
    """
    with closing(socket.socket(_family_of(host), socket.SOCK_STREAM)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            remedy = f'; {option} takes another one, 0 any free one' if option and port else ''
            raise ConfigurationError(
                f'cannot listen on port {port} of {host}: {error.strerror}{remedy}'
            ) from error
        return int(listener.getsockname()[1])


def bracketed(host: str) -> str:
    """A host as it stands in an address."""
    return f'[{host}]' if ':' in host else host


def address_of(host: str) -> str:
    """The number of an address that may be given by name.

    Raises:
        ConfigurationError: nothing has that name.
    """
    try:
        return str(socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        raise ConfigurationError(
            f'expected an address of this machine to serve on, got {host!r}: {error.strerror}'
        ) from error


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    return ipaddress.ip_address(address_of(host)).is_loopback


def _family_of(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ':' in address else socket.AF_INET


def _names_of(host: str) -> Iterator[str]:
    """What to call an address in a browser: here, and on other machines where they can come."""
    if host not in ANYWHERE:
        yield 'localhost' if host == '127.0.0.1' else host
        return
    yield 'localhost'
    yield socket.gethostname()
    yield from _addresses()


def _addresses() -> Iterator[str]:
    """The IPv4 addresses that other machines may reach: one of each network interface.

    Of all of them, as a robot's network often leads nowhere else, and which of several a laptop
    shares with it is not known here.
    """
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as asker:
        for _, name in socket.if_nameindex():
            if name.startswith(_WITHIN_THIS_MACHINE):
                continue
            with suppress(OSError):  # it has none
                request = struct.pack('256s', name.encode())
                answer = fcntl.ioctl(asker, _SIOCGIFADDR, request)
                yield socket.inet_ntoa(answer[20:24])
