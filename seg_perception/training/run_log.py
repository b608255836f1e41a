"""What a training run tells: lines for machines always, a bar for people, TensorBoard if asked."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from seg_perception.errors import ConfigurationError, MissingExtraError
from seg_perception.whole_file import write_whole

LOG_FILE = 'log.jsonl'


class RunLog:
    """The log of a run's folder.

    Args:
        run_dir: its folder; ``log.jsonl`` is appended to.
        is_shown: a progress bar with the time left, and messages, on stderr.
        has_tensorboard: events for TensorBoard as well, in ``tensorboard/``.

    Raises:
        MissingExtraError: tensorboard or tqdm is asked for and not installed.
    """

    def __init__(
        self, run_dir: Path, *, is_shown: bool = False, has_tensorboard: bool = False
    ) -> None:
        self._path = run_dir / LOG_FILE
        self._is_shown = is_shown
        self._bar: Any = None
        self._board: Any = None
        if is_shown:
            try:
                import tqdm  # noqa: F401
            except ImportError as error:
                raise MissingExtraError('tqdm', 'train', 'show progress') from error
        if has_tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise MissingExtraError(
                    'tensorboard', 'tensorboard', 'write TensorBoard events'
                ) from error
            self._open_board = partial(SummaryWriter, str(run_dir / 'tensorboard'))
            self._board = self._open_board()

    def write(self, record: dict[str, Any]) -> None:
        """Appends a record, which has ``kind`` and ``step``."""
        with self._path.open('a', encoding='utf-8') as stream:
            stream.write(json.dumps(record) + '\n')
        numbers = {k: v for k, v in record.items() if type(v) is float}
        if self._board is not None:
            for name, value in numbers.items():
                self._board.add_scalar(f'{record["kind"]}/{name}', value, record['step'])
        if record['kind'] == 'validation':
            best = ' (best)' if record['is_best'] else ''
            self.say(
                f'step {record["step"]}: mIoU {record["mean_iou"]:.4f}{best}, '
                f'accuracy {record["pixel_accuracy"]:.4f}'
            )
        elif self._bar is not None:
            self._bar.set_postfix({k: f'{v:.4g}' for k, v in numbers.items()}, refresh=False)

    def cut_back(self, step: int) -> None:
        """Removes what was logged after a step: the resumed run logs it again."""
        if self._board is not None:
            self._board.close()
            # Its files cannot be cut; TensorBoard hides the steps that are written again.
            self._board = self._open_board(purge_step=step + 1)
        if not self._path.is_file():
            return
        kept = [record for record in read_log(self._path) if record['step'] <= step]
        text = ''.join(json.dumps(record) + '\n' for record in kept)
        write_whole(self._path, text.encode('utf-8'))

    def say(self, message: str) -> None:
        """Tells people something."""
        if self._is_shown:
            from tqdm import tqdm

            tqdm.write(message, file=sys.stderr)

    @contextmanager
    def bar(self, total: int, done: int) -> Iterator[Callable[[int], Any]]:
        """A progress bar; gives what to call with the number of steps taken."""
        if not self._is_shown:
            yield lambda steps: None
            return
        from tqdm import tqdm

        with tqdm(
            total=total, initial=done, unit='step', dynamic_ncols=True, file=sys.stderr
        ) as bar:
            self._bar = bar
            yield bar.update
        self._bar = None

    def close(self) -> None:
        """Ends the event file."""
        if self._board is not None:
            self._board.close()


def read_log(path: Path) -> list[dict[str, Any]]:
    """The records of a log. A last line that was cut off by a kill is left out.

    Raises:
        ConfigurationError: it is no log.
    """
    lines = path.read_text(encoding='utf-8').splitlines()
    records: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            record['step'] + 0, record['kind'] + ''
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines):
                break
            raise ConfigurationError(
                f'{path}:{number}: expected a record, got {line!r}'
            ) from error
        records.append(record)
    return records
