"""Model servers: where a model is served, and what its server says of it.

The protocol is KServe's version 2 over gRPC, as Triton, MLServer, OpenVINO Model Server and others
speak it. What Triton adds to it (a model's configuration) is used where it is there.

    triton:HOST[:PORT]/NAME[@VERSION]       # for people; ``triton://…`` in a card
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seg_perception.errors import (
    ConfigurationError,
    MissingExtraError,
    ModelNotFoundError,
    ServerError,
)

SCHEME = 'triton'
DEFAULT_PORT = 8001
TLS_VARIABLE = 'SEG_PERCEPTION_SERVER_TLS'
"""Names a folder with ``ca.pem`` (who signed the server's certificate) and, where the server wants
to know its clients, ``client.pem`` and ``client.key``. Without it nothing is encrypted."""
CARD_KEY = 'seg_perception_card'
"""Parameter of a model's configuration that holds a card's YAML text."""

LOOKUP_TIMEOUT_S = 5.0
"""How long a server may take to say what a model is."""

_ADDRESS = re.compile(
    r'(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(?::(?P<port>\d{1,5}))?'
    r'/(?P<name>[^/@\s]+)(?:@(?P<version>[^/@\s]+))?'
)
_CHANNEL = (
    ('grpc.max_send_message_length', -1),
    ('grpc.max_receive_message_length', -1),
    # a server that comes back is found within a second, not within gRPC's two minutes
    ('grpc.initial_reconnect_backoff_ms', 200),
    ('grpc.min_reconnect_backoff_ms', 200),
    ('grpc.max_reconnect_backoff_ms', 1000),
    # a cable that was pulled is noticed while nothing is asked
    ('grpc.keepalive_time_ms', 10_000),
    ('grpc.keepalive_timeout_ms', 5_000),
    ('grpc.http2.max_pings_without_data', 0),
    # connections with other certificates, or none, are not to be mixed up
    ('grpc.use_local_subchannel_pool', 1),
)


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model of a server.

    Attributes:
        host: a name or an address; IPv6 in brackets.
        port: of the server's gRPC.
        name: the model's at the server.
        version: of the model; '' for the one that the server chooses.
    """

    host: str
    port: int
    name: str
    version: str = ''

    @classmethod
    def parse(cls, text: str) -> ServedModel:
        """Reads ``triton:…`` or ``triton://…``.

        Raises:
            ModelNotFoundError: it is written in another way.
        """
        rest = text.removeprefix(f'{SCHEME}:').removeprefix('//')
        match = _ADDRESS.fullmatch(rest)
        port = int(match['port'] or DEFAULT_PORT) if match else 0
        if match is None or not 0 < port < 65536:
            raise ModelNotFoundError(
                f'{text}: expected {SCHEME}:HOST[:PORT]/NAME[@VERSION], as in '
                f'{SCHEME}:gpu-server:8001/unet@1'
            )
        return cls(match['host'], port, match['name'], match['version'] or '')

    @property
    def endpoint(self) -> str:
        """Host and port."""
        return f'{self.host}:{self.port}'

    @property
    def uri(self) -> str:
        """As a card has it."""
        return f'{SCHEME}://{self.endpoint}/{self.name}' + (
            f'@{self.version}' if self.version else ''
        )

    def __str__(self) -> str:
        return self.uri.replace('://', ':')


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output of a served model.

    Attributes:
        name: the server's for it.
        datatype: KServe's word, such as ``FP32``.
        shape: with the batch first; None for sides that are open.
    """

    name: str
    datatype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        sides = ', '.join('?' if side is None else str(side) for side in self.shape)
        return f'{self.name}: {self.datatype} [{sides}]'


@dataclass(frozen=True, slots=True)
class ServedFacts:
    """What a server says of a model.

    Attributes:
        inputs: its inputs.
        outputs: its outputs.
        versions: those that are served.
        platform: what runs it there, in the server's words.
        max_batch: the largest batch of one request; None where nobody says.
        card: the text of the card in its configuration; '' where it has none.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    versions: tuple[str, ...]
    platform: str
    max_batch: int | None
    card: str


class ServerConnection:
    """A connection to the server of a model; safe to use from several threads.

    Args:
        model: which model of which server.

    Attributes:
        has_tls: whether it is encrypted.

    Raises:
        MissingExtraError: tritonclient is not installed.
        ConfigurationError: the folder of `TLS_VARIABLE` lacks a file.
    """

    def __init__(self, model: ServedModel) -> None:
        try:
            import tritonclient.grpc as library
        except ImportError as error:
            raise MissingExtraError('tritonclient', 'triton', 'ask a model server') from error
        tls = _tls_options(os.environ.get(TLS_VARIABLE, ''))
        self.model = model
        self.has_tls = bool(tls)
        self._library = library
        self._client: Any = library.InferenceServerClient(
            model.endpoint, channel_args=list(_CHANNEL), **tls
        )

    def facts(self, timeout_s: float = LOOKUP_TIMEOUT_S) -> ServedFacts:
        """What the server says of the model.

        Raises:
            ModelNotFoundError: it has no such model, or not in that version.
            ServerError: it does not answer.
        """
        named = {'model_name': self.model.name, 'model_version': self.model.version}
        failed = self._library.InferenceServerException
        try:
            metadata = self._client.get_model_metadata(**named, client_timeout=timeout_s)
            max_batch, card = self._config(named, timeout_s)
        except failed as error:
            raise self._explained(error, timeout_s) from error
        return ServedFacts(
            inputs=tuple(map(_tensor, metadata.inputs)),
            outputs=tuple(map(_tensor, metadata.outputs)),
            versions=tuple(metadata.versions),
            platform=metadata.platform,
            max_batch=max_batch,
            card=card,
        )

    def _config(self, named: Mapping[str, str], timeout_s: float) -> tuple[int | None, str]:
        """Largest batch and card; Triton's servers have a configuration, others may not."""
        try:
            answer = self._client.get_model_config(**named, client_timeout=timeout_s)
        except self._library.InferenceServerException as error:
            if 'UNIMPLEMENTED' in str(error.status()):
                return None, ''
            raise
        config = answer.config
        card = config.parameters[CARD_KEY].string_value if CARD_KEY in config.parameters else ''
        return config.max_batch_size or None, card

    def infer(
        self, images: Any, image: Tensor, outputs: tuple[str, ...], timeout_s: float
    ) -> PendingAnswer:
        """Sends a request, without waiting for its answer.

        Args:
            images: an array of the input's type.
            image: the input.
            outputs: names of the outputs that are wanted.
            timeout_s: until when an answer is of use; the server is told too.
        """
        sent = self._library.InferInput(image.name, list(images.shape), image.datatype)
        sent.set_data_from_numpy(images)
        pending = PendingAnswer(self, timeout_s)
        pending.call = self._client.async_infer(
            self.model.name,
            [sent],
            pending.take,
            model_version=self.model.version,
            outputs=[self._library.InferRequestedOutput(name) for name in outputs],
            client_timeout=timeout_s,
            timeout=int(timeout_s * 1e6),
        )
        return pending

    def close(self) -> None:
        """Ends the connection; calling it again does nothing."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _explained(self, error: Any, timeout_s: float) -> Exception:
        """What a failed call means, as one of this package's errors."""
        status = str(error.status() or '').removeprefix('StatusCode.')
        text = ' '.join(str(error.message()).split())[:300]
        if status == 'DEADLINE_EXCEEDED':
            return ServerError(
                f'{self.model}: expected an answer within {timeout_s:g} s, got none; is the '
                f'server overloaded, or the network? server_timeout_s is how long it may take'
            )
        if status in ('UNAVAILABLE', 'CANCELLED') and 'unknown model' not in text:
            return ServerError(
                f'{self.model}: the server does not answer: {text}; is it running, does a '
                f'firewall let {self.model.port} through, and do both sides use TLS, or neither '
                f'(${TLS_VARIABLE})?'
            )
        if status == 'NOT_FOUND' or 'unknown model' in text or 'not found' in text.lower():
            return ModelNotFoundError(
                f'{self.model}: the server has no such model ready: {text}; it has: '
                f'{self._names()}'
            )
        return ServerError(f'{self.model}: the server refused: {status} {text}')

    def _names(self) -> str:
        try:
            index = self._client.get_model_repository_index(client_timeout=LOOKUP_TIMEOUT_S)
        except Exception:  # not every server can tell, and this is but a help
            return 'what it does not tell'
        names = set()
        for model in index.models:
            version = f'@{model.version}' if model.version else ''
            is_ready = not model.state or model.state.upper().endswith('READY')
            names.add(f'{model.name}{version}' + ('' if is_ready else f' ({model.state.lower()})'))
        return ', '.join(sorted(names)) or 'none'


class PendingAnswer:
    """The answer to a request that is under way.

    Attributes:
        call: what can be cancelled.
    """

    def __init__(self, connection: ServerConnection, timeout_s: float) -> None:
        self.call: Any = None
        self._connection = connection
        self._timeout_s = timeout_s
        self._done = threading.Event()
        self._result: Any = None
        self._error: Any = None

    def take(self, result: Any, error: Any) -> None:
        """Called by the library, in a thread of its own."""
        self._result, self._error = result, error
        self._done.set()

    def result(self) -> Any:
        """The library's result.

        Raises:
            ServerError: there is no answer, not in time, or the server refused.
        """
        # the library ends the call itself; the margin is for a machine that stands still
        if not self._done.wait(self._timeout_s + 1.0):
            self.call.cancel()
            raise ServerError(
                f'{self._connection.model}: expected an answer within {self._timeout_s:g} s, got '
                f'none'
            )
        if self._error is not None:
            explained = self._connection._explained(self._error, self._timeout_s)
            if isinstance(explained, ModelNotFoundError):  # it was there
                explained = ServerError(str(explained))
            raise explained from self._error
        return self._result


def _tensor(described: Any) -> Tensor:
    shape = tuple(int(side) if side > 0 else None for side in described.shape)
    return Tensor(described.name, described.datatype, shape)


def _tls_options(tls_dir: str) -> dict[str, Any]:
    if not tls_dir:
        return {}
    folder = Path(tls_dir).expanduser()
    ca, certificate, key = (folder / name for name in ('ca.pem', 'client.pem', 'client.key'))
    if not ca.is_file() or certificate.is_file() != key.is_file():
        raise ConfigurationError(
            f'${TLS_VARIABLE}: expected a folder with ca.pem and, both or neither, client.pem and '
            f'client.key, got {folder.absolute()}'
        )
    clients = (
        {'certificate_chain': str(certificate), 'private_key': str(key)} if key.is_file() else {}
    )
    return {'ssl': True, 'root_certificates': str(ca), **clients}
