"""A real Triton server with models that run on the CPU, for tests that start and stop it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from seg_perception.pipeline import Segmenter

_ROOT = Path(__file__).resolve().parents[1]
SCRIPT = _ROOT / 'scripts' / 'triton_server'
_FOLDER = _ROOT / '.venv' / 'triton'
_START_S = 90.0
_MAX_STARTS = 3

needs_triton = pytest.mark.skipif(
    not (_FOLDER / '.done').is_file(),
    reason='Triton is not installed: scripts/triton_server install',
)


class TritonServer:
    """A server on a port of its own.

    Args:
        folder: for its models and its log; new or empty.
        options: of ``tritonserver``.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        self.models = folder / 'models'
        self.models.mkdir(parents=True)
        self.options = options
        self.port = _free_port()
        self.log = folder / 'triton.log'
        self._prefix = f'seg_perception_test_{self.port}_'
        self._process: subprocess.Popen[bytes] | None = None

    def address(self, model: str) -> str:
        """What to give as model."""
        return f'triton:localhost:{self.port}/{model}'

    def add(self, entry: Path, name: str, replaced: Mapping[str, str] | None = None) -> Path:
        """Adds a model as ``seg-perception export --format triton`` writes it.

        The wheel has no ONNX Runtime backend, so a few lines of Python stand in its place.

        Args:
            entry: the exported folder.
            name: at the server.
            replaced: texts of its configuration, and what takes their place.

        Returns:
            The folder of its version 1.
        """
        folder = self.models / name
        shutil.copytree(entry, folder)
        config = folder / 'config.pbtxt'
        text = config.read_text()
        for old, new in {
            'backend: "onnxruntime"': 'backend: "python"',
            **(replaced or {}),
        }.items():
            assert old in text, f'{old} is not in {text}'
            text = text.replace(old, new)
        config.write_text(text)
        shutil.copy(Path(__file__).parent / 'triton_python_model.py', folder / '1' / 'model.py')
        return folder / '1'

    def remove(self, name: str) -> None:
        """Removes a model; for a server that does not run."""
        shutil.rmtree(self.models / name)

    def start(self) -> None:
        """Starts it and waits until all models are ready."""
        # Its Python backend was seen to abort at the start with boost's lock_exception, which is a
        # known defect (issues 5949 and 8882 of triton-inference-server/server), not a test's.
        for _ in range(_MAX_STARTS):
            self._launch()
            exit_code = self._wait_until_ready()
            if exit_code is None:
                return
            self.kill()
            if exit_code != -signal.SIGABRT:
                break
        raise AssertionError(f'Triton ended: {self.log.read_text()[-4000:]}')

    def _launch(self) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith('PYTHON')}
        with self.log.open('ab') as log:
            self._process = subprocess.Popen(
                [
                    SCRIPT, 'run', self.models,
                    '--grpc-port', str(self.port), '--allow-http=false', '--allow-metrics=false',
                    f'--backend-config=python,shm-region-prefix-name={self._prefix}',
                    # The configurations are whole: a process less to start and to end.
                    '--disable-auto-complete-config',
                    *self.options,
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**environment, 'PYTHON': sys.executable}, start_new_session=True,
            )  # fmt: skip

    def _wait_until_ready(self) -> int | None:
        """None once it is, its exit code where it ends before."""
        process = self._process
        assert process is not None
        deadline_s = time.monotonic() + _START_S
        while time.monotonic() < deadline_s:
            if process.poll() is not None:
                return int(process.returncode)
            if self._is_ready():
                return None
            time.sleep(0.1)
        raise AssertionError(f'Triton is not ready: {self.log.read_text()[-4000:]}')

    def _is_ready(self) -> bool:
        import tritonclient.grpc as library

        try:
            with socket.create_connection(('localhost', self.port), 1.0):
                pass
            if '--grpc-use-ssl=true' in self.options:
                return True
            with library.InferenceServerClient(f'localhost:{self.port}') as client:
                return bool(client.is_server_ready(client_timeout=2.0))
        except (OSError, library.InferenceServerException):
            return False

    def kill(self) -> None:
        """Ends it as a power cut would, with the processes of its models."""
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):  # it ended by itself
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        for memory in Path('/dev/shm').glob(f'{self._prefix}*'):
            memory.unlink(missing_ok=True)

    def __enter__(self) -> TritonServer:
        self.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.kill()


def write_served(card_path: Path, folder: Path) -> Path:
    """Makes an entry of a model repository of an ONNX file and its card.

    Args:
        card_path: the file lies beside it.
        folder: the entry, new.

    Returns:
        The same folder.
    """
    from seg_perception.models import load_card
    from seg_perception.training.serving import write_entry

    card = load_card(card_path)
    folder.mkdir()
    shutil.copy(card_path.parent / card.weights.uri, folder)
    write_entry(folder, card)
    return folder


def batches(version_folder: Path) -> list[int]:
    """Sizes of the batches that the model was given."""
    file = version_folder / 'batches'
    return [int(n) for n in re.findall(r'\d+', file.read_text())] if file.exists() else []


def wait_no_longer(segmenter: Segmenter, timeout_s: float) -> None:
    """Shortens ``server_timeout_s`` of what is connected, which a busy machine takes long for."""
    object.__setattr__(segmenter._backend._options, 'server_timeout_s', timeout_s)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(('localhost', 0))
        return int(found.getsockname()[1])
