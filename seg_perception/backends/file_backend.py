"""What the backends have in common that leave a model to a library or a server.

B batch, H/W the model's input.
"""

from __future__ import annotations

import abc

import torch

from seg_perception.backends.batches import check_batch
from seg_perception.backends.devices import device_name
from seg_perception.backends.failures import translated
from seg_perception.backends.outputs import OutputDecoder
from seg_perception.backends.protocol import ModelOutput, RunOptions
from seg_perception.errors import DeviceError, InferenceError
from seg_perception.imaging.quantise import Quantisation
from seg_perception.models.card import ModelCard


class FileBackend(abc.ABC):
    """A `Backend` around a graph that torch does not see into.

    Args:
        card: the model's.
        options: how to run it.
        device: where it takes its input and leaves its output.
        precision: what the file computes in.
        channels_first: the format's habit, see `outputs.channel_axis`.

    Raises:
        DeviceError: another precision than the file's is asked for.
    """

    name: str
    dtype: torch.dtype = torch.float32
    channels_last = False
    is_capturable = False
    input_hw_fixed: tuple[int, int] | None = None
    max_batch: int | None = None
    input_quantisation: Quantisation | None = None

    _num_warm_up_runs = 2
    """The first run of a size may compile and allocate for it."""

    def __init__(
        self,
        card: ModelCard,
        options: RunOptions,
        device: torch.device,
        precision: str,
        *,
        channels_first: bool = True,
    ) -> None:
        if options.precision not in ('auto', precision):
            raise DeviceError(
                f'{card.name}: precision: expected auto or {precision}, as the file has it, got '
                f'{options.precision}; convert the file'
            )
        self.device = device
        self._card = card
        self._options = options
        self._precision = precision
        self._decoder = OutputDecoder(card, channels_first=channels_first)
        self._is_closed = False

    @abc.abstractmethod
    def _run(self, batch_B3HW: torch.Tensor) -> list[torch.Tensor]:
        """What the graph gives for a checked batch; the first output alone where that is read."""

    @abc.abstractmethod
    def _release(self) -> None:
        """Lets go of what holds the model's memory."""

    def infer(self, batch_B3HW: torch.Tensor) -> ModelOutput:
        """See `Backend.infer`."""
        if self._is_closed:
            raise InferenceError(f'{self._card.name}: is closed')
        check_batch(
            batch_B3HW,
            self._card.name,
            self.device,
            self.input_hw_fixed,
            self.max_batch,
            self.input_quantisation,
        )
        shape = tuple(batch_B3HW.shape)
        with torch.inference_mode(), translated(self._card.name, f'on a batch of {shape}'):
            return self._decoder(self._run(batch_B3HW), (shape[2], shape[3]), shape[0])

    def warm_up(self, input_hw: tuple[int, int], batch: int = 1) -> None:
        """See `Backend.warm_up`."""
        batch = min(batch, self.max_batch or batch)
        zeros = torch.zeros(batch, 3, *input_hw, device=self.device, dtype=self.dtype)
        for _ in range(self._num_warm_up_runs):
            self.infer(zeros)

    def free_caches(self) -> None:  # noqa: B027
        """See `Backend.free_caches`; a library keeps its own to itself."""

    def close(self) -> None:
        """See `Backend.close`."""
        if not self._is_closed:
            self._is_closed = True
            self._release()

    def description(self) -> dict[str, str]:
        """See `Backend.description`."""
        return {
            'backend': self.name,
            'engine': self._options.engine,
            'device': device_name(self.device),
            'precision': self._precision,
            'num_threads': str(self._options.num_threads or 'default'),
            **self._remarks(),
        }

    def _remarks(self) -> dict[str, str]:
        """What else there is to say, for people."""
        return {}
