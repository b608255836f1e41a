"""The page's data: a process of rerun's own, which keeps the last minutes for who opens the page.

A process of its own, because it holds images for browsers that come late or read slowly: what it
takes of memory is bounded by its own option, and what it does never holds up the node's topics.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from seg_perception.errors import ConfigurationError
from seg_perception.ros.view.page import ANYWHERE, Page, address_of, bracketed, free_port
from seg_perception.ros.view.rerun_sdk import server_program

_START_S = 30.0
_STOP_S = 3.0
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Where the page is served, and how much it remembers.

    Attributes:
        host: address to listen on; ``'0.0.0.0'`` for all of this machine.
        page_port: of the page; 0 for any free one.
        data_port: of the data, which the page fetches by itself; 0 for any free one.
        memory_mib: of what was drawn, kept for browsers that come late.
    """

    host: str = '127.0.0.1'
    page_port: int = 9090
    data_port: int = 9876
    memory_mib: int = 64


class PageServer:
    """Serves until it is closed.

    Args:
        options: where.

    Attributes:
        data_url: what those who draw connect to.
        page: what browsers open.

    Raises:
        ConfigurationError: the address is not this machine's, or a port is taken.
        MissingExtraError: rerun-sdk is not installed.
    """

    def __init__(self, options: ServerOptions) -> None:
        if options.page_port == options.data_port != 0:
            raise ConfigurationError(
                f'--port and --data-port: expected two different ports, got {options.data_port} '
                f'for both'
            )
        program = server_program()
        host = address_of(options.host)
        data_port = free_port(host, options.data_port, '--data-port')
        assets_port = free_port(host, 0)
        self._local = ANYWHERE.get(host, host)
        self.data_url = f'rerun+http://{bracketed(self._local)}:{data_port}/proxy'
        assets_url = f'http://{bracketed(self._local)}:{assets_port}'
        self.page = Page(host, options.page_port, data_port, assets_url)
        self._folder = tempfile.TemporaryDirectory(prefix='seg_perception_view_')
        self._log_path = Path(self._folder.name, 'server.log')
        with self._log_path.open('wb') as log_file:
            self._process = subprocess.Popen(
                [
                    str(program),
                    '--serve-web',
                    *('--bind', host),
                    *('--web-viewer-port', str(assets_port)),
                    *('--port', str(data_port)),
                    *('--server-memory-limit', f'{options.memory_mib}MiB'),
                    # What is now, before what was.
                    '--newest-first',
                    # The page, whatever this machine is called by others.
                    *('--cors-allow-origin', f'http://*:{self.page.port}'),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log_file,
                stderr=subprocess.STDOUT,
                env=self._environment(),
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        try:
            self._wait_for(assets_port)
            self._wait_for(data_port)
        except BaseException:
            self.close()
            raise

    def is_running(self) -> bool:
        """Whether it has not ended by itself."""
        return self._process.poll() is None

    def complaint(self) -> str:
        """How it ended, and the last it said."""
        lines = self._log_path.read_text(encoding='utf-8', errors='replace').split('\n')
        said = next((line for line in reversed(lines) if line.strip()), 'nothing')
        return f"the page's server ended with {self._process.returncode}; it said: {said}"

    def close(self) -> None:
        """Ends it."""
        self.page.close()
        if self.is_running():
            self._process.terminate()
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._folder.cleanup()

    def _environment(self) -> dict[str, str]:
        """With a configuration in which the server's usage statistics, on by default, are off."""
        config = Path(self._folder.name, 'rerun', 'analytics.json')
        config.parent.mkdir()
        settings = {
            'analytics_enabled': False,
            'analytics_id': uuid.uuid4().hex,
            'metadata': {},
            'config_file_path': str(config),
            'data_dir_path': str(config.parent),
        }
        config.write_text(json.dumps(settings), encoding='utf-8')
        folder = self._folder.name
        return os.environ | {'XDG_CONFIG_HOME': folder, 'XDG_DATA_HOME': folder, 'NO_COLOR': '1'}

    def _wait_for(self, port: int) -> None:
        deadline_s = time.monotonic() + _START_S
        while True:
            try:
                socket.create_connection((self._local, port), 1.0).close()
                return
            except OSError:
                if not self.is_running() or time.monotonic() > deadline_s:
                    raise ConfigurationError(self.complaint()) from None
                time.sleep(0.05)


def _end_with_parent() -> None:
    """Has the kernel end the server with this process, even where that is killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
