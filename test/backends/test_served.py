"""Models that a real Triton server runs label as they do here, and fail in words that help."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from photographs import astronaut
from small_models import write_model
from triton_server import TritonServer, batches, needs_triton, wait_no_longer, write_served

from seg_perception.backends.exporting import export_onnx
from seg_perception.errors import (
    ConfigurationError,
    DeviceError,
    ModelCardError,
    ModelLostError,
    ModelNotFoundError,
    SegPerceptionError,
    ServerError,
    WeightsError,
)
from seg_perception.models import DEFAULT_MODEL, resolve
from seg_perception.models.card_writing import card_text, write_card
from seg_perception.models.model_server import TLS_VARIABLE, ServedModel, ServerConnection
from seg_perception.pipeline import Segmenter
from seg_perception.training.export import export

pytest.importorskip('tritonclient.grpc', reason='tritonclient (extra triton) is not installed')
pytestmark = [needs_triton, pytest.mark.slow, pytest.mark.timeout(600)]

LONG_S = 30.0
"""For an answer on a busy machine."""
INDOOR = ('background', 'floor', 'chair')


class OfBytes(torch.nn.Module):
    """A network that takes an image's own bytes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.head = torch.nn.Conv2d(3, 3, 5, 4, 2)

    def forward(self, x_B3HW: torch.Tensor) -> torch.Tensor:
        return self.head(x_B3HW.float() / 255 - 0.5)


@pytest.fixture(scope='module')
def entries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Entries of a model repository by name."""
    folder = tmp_path_factory.mktemp('entries')
    made = {'voc': export(DEFAULT_MODEL, folder / 'voc', 'triton').folder}
    card = write_model(folder, 'indoor', INDOOR, 'floor')
    made['indoor'] = write_served(card, folder / 'entry_indoor')
    bytes_folder = folder / 'bytes'
    bytes_folder.mkdir()
    network = OfBytes().eval().requires_grad_(False)
    example = torch.zeros(2, 3, 96, 128, dtype=torch.uint8)
    export_onnx(network, example, bytes_folder / 'bytes.onnx', 'bytes')
    indoor = resolve(card)
    spec = dataclasses.replace(indoor.input, size_hw=(96, 128), std_rgb=(1.0, 1.0, 1.0))
    written = write_card(
        dataclasses.replace(indoor, name='bytes', input=spec), bytes_folder / 'bytes.onnx', 'onnx'
    )
    assert written.path is not None
    made['bytes'] = write_served(written.path, folder / 'entry_bytes')
    return made


OF_INDOOR = {'"logits"': '"scores"'}
OF_BYTES = {'TYPE_FP32 dims: [ 3': 'TYPE_UINT8 dims: [ 3'}


@pytest.fixture(scope='module')
def server(
    entries: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TritonServer]:
    server = TritonServer(tmp_path_factory.mktemp('server') / 'triton')
    server.add(entries['voc'], 'voc')
    server.add(entries['indoor'], 'indoor', OF_INDOOR)
    server.add(entries['bytes'], 'bytes', OF_BYTES)
    no_card = {'seg_perception_card': 'something_else'}
    server.add(entries['indoor'], 'unknown', {**OF_INDOOR, **no_card})
    server.add(
        entries['indoor'],
        'grey',
        {**OF_INDOOR, 'dims: [ 3, -1, -1 ] } ]\nout': 'dims: [ 1, -1, -1 ] } ]\nout'},
    )
    with server:
        yield server


def test_labels_equal_those_made_here(server: TritonServer, entries: dict[str, Path]) -> None:
    image = astronaut(300, 400)
    images = [image, image[:200], *[np.ascontiguousarray(image[:, ::-1])] * 18]
    with (
        Segmenter(entries['voc'], num_threads=1) as here,
        Segmenter(server.address('voc'), server_timeout_s=LONG_S) as there,
    ):
        assert there.classes.names == here.classes.names
        about = there.description()
        assert about['engine'] == 'triton'
        assert about['server'] == f'localhost:{server.port}'
        assert about['input'] == here.description()['input']
        expected, found = here.segment(images), there.segment(images)
        for a, b in zip(expected, found, strict=True):
            np.testing.assert_array_equal(a.labels_YX, b.labels_YX)
            assert a.confidence_YX is not None
            assert b.confidence_YX is not None
            assert int(np.abs(a.confidence_YX.astype(int) - b.confidence_YX).max()) <= 1
        assert (expected[0].model, found[0].model) == (DEFAULT_MODEL, server.address('voc'))
        assert len(np.unique(found[0].labels_YX)) > 1
        assert there.description()['served_version'] == '1'
    assert max(batches(server.models / 'voc' / '1')) == 8  # what its configuration allows


def test_the_server_puts_robots_together(
    server: TritonServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = server.models / 'indoor' / '1'
    image = astronaut()
    hold = folder / 'hold'
    sent: list[ServerConnection] = []

    def count(connection: ServerConnection) -> None:
        send = connection.infer

        def infer(*arguments: Any) -> Any:
            pending = send(*arguments)
            connection.facts(LONG_S)  # answered after the request has come
            sent.append(connection)
            return pending

        monkeypatch.setattr(connection, 'infer', infer)

    robots = [Segmenter(server.address('indoor'), server_timeout_s=LONG_S) for _ in range(4)]
    for robot in robots:
        count(robot._backend._connection)
    num_before = len(batches(folder))
    hold.touch()
    try:
        threads = [threading.Thread(target=robot.segment, args=([image],)) for robot in robots]
        for thread in threads:
            thread.start()
        deadline_s = time.monotonic() + LONG_S
        while len(sent) < len(robots):
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
        hold.unlink()
        for thread in threads:
            thread.join()
    finally:
        hold.unlink(missing_ok=True)
        for robot in robots:
            robot.close()
    sizes = batches(folder)[num_before:]
    assert sum(sizes) == 4
    assert max(sizes) > 1


def test_bytes_go_as_they_are(server: TritonServer, entries: dict[str, Path]) -> None:
    image = astronaut(200, 300)
    with (
        Segmenter(entries['bytes'], num_threads=1) as here,
        Segmenter(server.address('bytes'), server_timeout_s=LONG_S) as there,
    ):
        assert there._backend.input_quantisation is not None
        [expected], [found] = here.segment([image]), there.segment([image])
    np.testing.assert_array_equal(expected.labels_YX, found.labels_YX)
    assert len(np.unique(found.labels_YX)) > 1


def test_a_card_of_ones_own(
    server: TritonServer, entries: dict[str, Path], tmp_path: Path
) -> None:
    address = server.address('unknown')
    with pytest.raises(ModelCardError, match='found none; nothing there says mean') as raised:
        resolve(address)
    uri = f'triton://localhost:{server.port}/unknown'
    assert f'uri: "{uri}"' in str(raised.value)

    def written(num_classes: int) -> Path:
        path = tmp_path / f'{num_classes}.yaml'
        card = resolve(entries['indoor'])
        names = tuple(f'class_{i}' for i in range(num_classes))
        classes = dataclasses.replace(card.classes, names=names, colors_rgb=())
        text = card_text(dataclasses.replace(card, classes=classes))
        start, end = text.index('weights:'), text.index('input:')
        path.write_text(f'{text[:start]}weights:\n  uri: {uri}\n{text[end:]}')
        return path

    assert resolve(written(3)).weights.format == 'triton'
    with Segmenter(written(3), server_timeout_s=LONG_S) as segmenter:
        [result] = segmenter.segment([astronaut()])
    assert set(np.unique(result.labels_YX)) == {1}
    segmenter = Segmenter(written(4), server_timeout_s=LONG_S)
    with pytest.raises(ModelCardError, match='expected logits with 4 channels'):
        segmenter.warm_up()
    segmenter.close()


@pytest.mark.parametrize(
    ('model', 'options', 'error', 'message'),
    [
        ('nothing', {}, ModelNotFoundError, "no such model ready.*'nothing'.*it has: .*voc@1"),
        ('voc@7', {}, ModelNotFoundError, 'version 7'),
        ('grey', {}, WeightsError, r'expected one input of FP32.*image: FP32 \[\?, 1, \?, \?\]'),
        ('indoor', {'device': 'cuda'}, DeviceError, 'runs at its server'),
        ('indoor', {'precision': 'fp16'}, DeviceError, 'expected auto or fp32'),
        ('indoor', {'weights_path': 'a.onnx'}, ConfigurationError, 'weights are at the server'),
        ('indoor', {'engine': 'onnxruntime'}, ConfigurationError, 'triton, or auto; got'),
        ('indoor', {'server_timeout_s': 0.0}, ConfigurationError, r'0\.001 to 3600 seconds'),
    ],
)
def test_what_cannot_be(
    model: str,
    options: dict[str, Any],
    error: type[SegPerceptionError],
    message: str,
    server: TritonServer,
) -> None:
    with pytest.raises(error, match=message):
        Segmenter(server.address(model), **{'server_timeout_s': LONG_S, **options})


def test_late_and_failing_answers(server: TritonServer) -> None:
    folder = server.models / 'indoor' / '1'
    image = astronaut()
    with Segmenter(server.address('indoor'), server_timeout_s=LONG_S) as segmenter:
        segmenter.segment([image])
        (folder / 'fails').touch()
        try:
            with pytest.raises(ServerError, match=r'the server refused: .*the network fell over'):
                segmenter.segment([image])
        finally:
            (folder / 'fails').unlink()
        assert set(np.unique(segmenter.segment([image])[0].labels_YX)) == {1}
        wait_no_longer(segmenter, 1.0)
        (folder / 'delay_s').write_text('3.0')
        try:
            start_s = time.monotonic()
            with pytest.raises(ServerError, match='expected an answer within 1 s, got none'):
                segmenter.segment([image])
            assert time.monotonic() - start_s > 0.9
        finally:
            (folder / 'delay_s').unlink()


def test_a_server_that_goes_and_comes_back(entries: dict[str, Path], tmp_path: Path) -> None:
    server = TritonServer(tmp_path / 'triton')
    server.add(entries['indoor'], 'indoor', OF_INDOOR)
    image = astronaut()
    try:
        server.start()
        segmenter = Segmenter(server.address('indoor'), server_timeout_s=LONG_S)
        segmenter.segment([image])
        server.kill()
        for _ in range(2):
            with pytest.raises(ServerError, match=r'the server does not answer.*is it running'):
                segmenter.segment([image])
        with pytest.raises(ServerError, match='does not answer'):
            resolve(server.address('indoor'))
        server.start()
        wait_until_it_answers(segmenter, image)
        # another model of that name is not taken for this one
        server.kill()
        server.remove('indoor')
        server.add(entries['indoor'], 'indoor', {**OF_INDOOR, 'chair': 'ladder'})
        server.start()
        with pytest.raises(ModelLostError, match=r'the server has exchanged .*expected .*chair'):
            go_on(segmenter, image)
        segmenter.close()
    finally:
        server.kill()


def wait_until_it_answers(segmenter: Segmenter, image: np.ndarray) -> None:
    deadline_s = time.monotonic() + LONG_S
    while True:
        try:
            segmenter.segment([image])
        except ServerError:
            assert time.monotonic() < deadline_s
            time.sleep(0.1)
        else:
            return


def go_on(segmenter: Segmenter, image: np.ndarray) -> None:
    """Segments for a while: which model the server has is looked at every second only."""
    deadline_s = time.monotonic() + LONG_S
    while time.monotonic() < deadline_s:
        wait_until_it_answers(segmenter, image)
        time.sleep(0.1)


@pytest.mark.skipif(shutil.which('openssl') is None, reason='openssl is not installed')
def test_tls(entries: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_certificates(tmp_path)
    tls = ('--grpc-use-ssl=true', '--grpc-use-ssl-mutual=true')
    files = [
        f'--grpc-{name}={tmp_path / file}'
        for name, file in (
            ('server-cert', 'server.pem'), ('server-key', 'server.key'), ('root-cert', 'ca.pem')
        )
    ]  # fmt: skip
    server = TritonServer(tmp_path / 'triton', *tls, *files)
    server.add(entries['indoor'], 'indoor', OF_INDOOR)
    with server:
        with pytest.raises(ServerError, match=f'do both sides use TLS.*{TLS_VARIABLE}'):
            resolve(server.address('indoor'))
        monkeypatch.setenv(TLS_VARIABLE, str(tmp_path / 'nowhere'))
        with pytest.raises(ConfigurationError, match=r'expected a folder with ca\.pem'):
            resolve(server.address('indoor'))
        monkeypatch.setenv(TLS_VARIABLE, str(tmp_path))
        deadline_s = time.monotonic() + LONG_S
        while True:
            try:
                segmenter = Segmenter(server.address('indoor'), server_timeout_s=LONG_S)
                break
            except (ServerError, ModelNotFoundError):  # its models may not be ready yet
                assert time.monotonic() < deadline_s
        assert segmenter.description()['server_tls'] == 'on'
        assert set(np.unique(segmenter.segment([astronaut()])[0].labels_YX)) == {1}
        segmenter.close()


def make_certificates(folder: Path) -> None:
    """An authority, and a server and a client that it knows."""

    def openssl(*arguments: str) -> None:
        subprocess.run(['openssl', *arguments], cwd=folder, check=True, capture_output=True)

    new = ('-newkey', 'rsa:2048', '-nodes', '-days', '2')
    openssl('req', '-x509', *new, '-keyout', 'ca.key', '-out', 'ca.pem', '-subj', '/CN=robots')
    (folder / 'names').write_text('subjectAltName=DNS:localhost')
    for name in ('server', 'client'):
        openssl(
            'req', *new[:3], '-keyout', f'{name}.key', '-out', f'{name}.csr',
            '-subj', f'/CN={name}',
        )  # fmt: skip
        openssl(
            'x509', '-req', '-in', f'{name}.csr', '-CA', 'ca.pem', '-CAkey', 'ca.key',
            '-CAcreateserial', '-days', '2', '-extfile', 'names', '-out', f'{name}.pem',
        )  # fmt: skip


@pytest.mark.parametrize(
    ('text', 'uri'),
    [
        ('triton:gpu:9001/unet@2', 'triton://gpu:9001/unet@2'),
        ('triton:10.0.0.7/u-net_2.onnx', 'triton://10.0.0.7:8001/u-net_2.onnx'),
        ('triton:[::1]:8001/unet', 'triton://[::1]:8001/unet'),
        ('triton://gpu.lan:8001/unet', 'triton://gpu.lan:8001/unet'),
    ],
)
def test_addresses(text: str, uri: str) -> None:
    model = ServedModel.parse(text)
    assert model.uri == uri
    assert ServedModel.parse(str(model)) == model


@pytest.mark.parametrize('text', ['triton:', 'triton:gpu', 'triton:gpu:99999/a', 'triton:a/b/c'])
def test_no_addresses(text: str) -> None:
    with pytest.raises(ModelNotFoundError, match=r'expected triton:HOST\[:PORT\]/NAME'):
        resolve(text)
