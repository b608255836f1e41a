"""The page's front: where it leads, what it lets the page fetch, what it does where it cannot."""

from __future__ import annotations

import http.client
import itertools
import socket
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from seg_perception.errors import ConfigurationError
from seg_perception.ros.view.page import Page, free_port, is_loopback


@pytest.fixture
def page(tmp_path):
    """A page whose files a real server holds."""
    (tmp_path / 'index.html').write_text('viewer', encoding='utf-8')

    class Files(SimpleHTTPRequestHandler):
        def __init__(self, *args, **more):
            super().__init__(*args, directory=str(tmp_path), **more)

        def log_message(self, *_):
            pass

    files = ThreadingHTTPServer(('127.0.0.1', 0), Files)
    thread = threading.Thread(target=files.serve_forever)
    thread.start()
    front = Page('127.0.0.1', 0, 9876, f'http://127.0.0.1:{files.server_port}')
    yield front
    front.close()
    files.shutdown()
    files.server_close()
    thread.join()


def ask(page, path, host, method='GET'):
    connection = http.client.HTTPConnection('127.0.0.1', page.port, timeout=10.0)
    connection.request(method, path, headers={'Host': host})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer, body


@pytest.mark.parametrize(
    ('host', 'data'),
    [
        ('robot:9090', 'rerun+http://robot:9876/proxy'),
        ('localhost', 'rerun+http://localhost:9876/proxy'),
        ('[fe80::1]:9090', 'rerun+http://[fe80::1]:9876/proxy'),
    ],
)
def test_leads_to_the_data_under_the_name_it_was_called_by(page, host, data):
    answer, _ = ask(page, '/', host)
    assert answer.status == 302
    query = parse_qs(urlsplit(answer.headers['Location']).query)
    assert query['url'] == [data]
    answer, body = ask(page, answer.headers['Location'], host)
    assert (answer.status, body) == (200, b'viewer')
    policy = answer.headers['Content-Security-Policy']
    assert policy.startswith("connect-src 'self' data: blob: http://")
    assert '*' not in policy


def test_what_is_not_there_is_not_found(page):
    assert ask(page, '/no.js', 'robot')[0].status == 404
    answer, body = ask(page, '/index.html', 'robot', 'HEAD')
    assert (answer.status, body) == (200, b'')


def test_a_taken_port_is_named_with_its_option():
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f'port {port} of .*--port takes another one'):
            free_port('127.0.0.1', port, '--port')


def test_addresses_for_other_machines_are_named_wherever_the_network_leads():
    """Robots have no way to the internet: each network this machine is in counts."""
    page = Page('0.0.0.0', 0, 9876, 'http://127.0.0.1:9')
    page.close()
    here, by_name, *by_number = (urlsplit(url).hostname for url in page.urls)
    assert (here, by_name) == ('localhost', socket.gethostname().lower())
    with open('/proc/net/fib_trie', encoding='ascii') as table:
        lines = [line.split() for line in table]
    # An address, and below it what it is to this machine.
    local = {
        above[1]
        for above, below in itertools.pairwise(lines)
        if below[:2] == ['/32', 'host'] and below[2] == 'LOCAL'
    }
    assert set(by_number) <= {address for address in local if not address.startswith('127.')}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(('192.0.2.1', 9))
        except OSError:  # no way out: nothing to compare with
            return
        assert probe.getsockname()[0] in by_number


def test_addresses():
    assert is_loopback('localhost')
    assert not is_loopback('0.0.0.0')
    with pytest.raises(ConfigurationError, match='expected an address of this machine'):
        is_loopback('no host has this name')
