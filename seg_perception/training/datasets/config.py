"""The mapping that describes a dataset, read strictly.

.. code-block:: yaml

    layout: camvid          # a name of LAYOUTS
    root: ../data/camvid    # relative to the configuration file
    split: train
    classes: [road, car]    # ours, in the order of ids; default: the layout's own
    remap: {pavement: road, '*': ignore}    # theirs: ours, ignore or drop

Keys of all layouts: ``layout``, ``root``, ``split``, ``classes``, ``remap``, ``unannotated``,
``void_ids``, ``exif_orientation``, ``unpaired``, ``holdout``, ``every``, ``max_pixels``. Keys of
some: ``images``, ``masks``, ``annotations``, ``list``, ``image_suffix``, ``mask_suffix``,
``recursive``, ``source_classes``; each layout's module says which it reads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from seg_perception.errors import ConfigurationError, ModelCardError
from seg_perception.imaging import DEFAULT_MAX_PIXELS
from seg_perception.models.card_fields import Fields, check_choice
from seg_perception.training.datasets.tables import Color

_T = TypeVar('_T')

SECTIONS = ('train', 'val', 'test')
"""The parts of a ``data`` section."""


@dataclass(frozen=True, slots=True)
class Holdout:
    """One of two parts that a dataset without splits is divided into.

    Attributes:
        part: ``'train'`` or ``'val'``.
        share: of the samples that go to ``val``, rounded, at least one.
        seed: another number gives another division.
    """

    part: str
    share: float
    seed: int


@dataclass(frozen=True, slots=True)
class DatasetConfig:
    """A dataset's description; see the module for the keys.

    Attributes:
        layout: name of the layout.
        root: folder that all other paths are relative to.
        split: as the layout names its parts; '' where not given.
        class_names: ours in the order of ids; None for the layout's own.
        class_colors: one per name, or empty.
        remap: their name to our name, ``'ignore'`` or ``'drop'``; ``'*'`` is any other name.
        unannotated: what pixels that nobody annotated are: a class of ours or ``'ignore'``.
        void_ids: mask values that are ignored; None for the layout's default.
        source_classes: their ids and names; None for the layout's own.
        is_upright: turn photographs as EXIF says; None for the layout's default.
        skips_unpaired: images without mask and masks without image are left out, else errors.
        holdout: divides the samples; None for all of them.
        every: only every n-th sample (in the order of names) is taken.
        max_pixels: bound on height * width of an image.
        paths: the optional texts that were given, by key.
        is_recursive: folders are searched with all their subfolders.
    """

    layout: str
    root: Path
    split: str
    class_names: tuple[str, ...] | None
    class_colors: tuple[Color, ...]
    remap: Mapping[str, str]
    unannotated: str | None
    void_ids: tuple[int, ...] | None
    source_classes: Mapping[int, str] | None
    is_upright: bool | None
    skips_unpaired: bool
    holdout: Holdout | None
    every: int
    max_pixels: int
    paths: Mapping[str, str]
    is_recursive: bool

    def path(self, key: str, default: str) -> Path:
        """A path below ``root``, from its key or the default; ``{split}`` becomes the split."""
        return self.root / self.text(key, default)

    def text(self, key: str, default: str = '') -> str:
        """An optional text, with ``{split}`` replaced."""
        return self.paths.get(key, default).replace('{split}', self.split)

    def select(self, items: Sequence[_T], names: Sequence[str]) -> list[_T]:
        """The items of this configuration's ``holdout`` and ``every``, in their order.

        The holdout ranks samples by a hash of seed and name: the division is the same on every
        machine, and hardly changes for the other samples when one is added.

        Raises:
            ConfigurationError: there are too few samples to divide.
        """
        chosen = set(range(len(items)))
        if self.holdout is not None:
            if len(items) < 2:
                raise ConfigurationError(
                    'dataset.holdout: expected at least two annotated images to divide, got '
                    f'{len(items)} in {self.root}'
                )
            seed = self.holdout.seed
            ranked = sorted(
                range(len(items)),
                key=lambda i: hashlib.sha256(f'{seed}/{names[i]}'.encode()).digest(),
            )
            num_val = min(max(1, round(self.holdout.share * len(items))), len(items) - 1)
            val = set(ranked[:num_val])
            chosen = val if self.holdout.part == 'val' else chosen - val
        return [items[i] for i in sorted(chosen)][:: self.every]


_FREE_KEYS = ('classes', 'source_classes')
_PATH_KEYS = ('images', 'masks', 'annotations', 'list', 'image_suffix', 'mask_suffix')


def parse_config(
    config: Mapping[str, Any], *, base_dir: Path, layouts: Sequence[str]
) -> DatasetConfig:
    """Reads a dataset's description.

    Args:
        config: the mapping, as from YAML.
        base_dir: folder that a relative ``root`` starts from: that of the configuration file.
        layouts: the names that ``layout`` can have.

    Raises:
        ConfigurationError: a key is unknown, missing, or has a value that cannot work; the root
            is no folder.
    """
    try:
        return _parse(dict(config), Fields(dict(config), 'dataset'), base_dir, tuple(layouts))
    except ModelCardError as error:  # the strict reader was made for model cards
        raise ConfigurationError(str(error)) from None


def _parse(
    raw: dict[str, Any], fields: Fields, base_dir: Path, layouts: tuple[str, ...]
) -> DatasetConfig:
    layout = fields.text('layout')
    check_choice('dataset.layout', layout, layouts)
    root = base_dir / Path(fields.text('root')).expanduser()
    if not root.is_dir():
        raise ConfigurationError(
            f'dataset.root: expected a folder, {root} is none; relative paths start at {base_dir}'
        )
    for key in _FREE_KEYS:
        fields.has(key)  # known, and of more than one type
    names, colors = _parse_classes(raw.get('classes'), root)
    unpaired = fields.text('unpaired', 'error')
    check_choice('dataset.unpaired', unpaired, ('error', 'skip'))
    orientation = fields.text('exif_orientation', '')
    check_choice('dataset.exif_orientation', orientation or 'apply', ('apply', 'ignore'))
    config = DatasetConfig(
        layout=layout,
        root=root,
        split=fields.text('split', ''),
        class_names=names,
        class_colors=colors,
        remap=fields.text_mapping('remap'),
        unannotated=fields.text('unannotated', '') or None,
        void_ids=fields.integers('void_ids') if fields.has('void_ids') else None,
        source_classes=_parse_source_classes(raw.get('source_classes')),
        is_upright=orientation == 'apply' if orientation else None,
        skips_unpaired=unpaired == 'skip',
        holdout=_parse_holdout(fields),
        every=_positive(fields, 'every', 1),
        max_pixels=_positive(fields, 'max_pixels', DEFAULT_MAX_PIXELS),
        paths={key: value for key in _PATH_KEYS if (value := fields.text(key, ''))},
        is_recursive=fields.boolean('recursive', False),
    )
    fields.finish()
    return config


def _positive(fields: Fields, key: str, default: int) -> int:
    value = fields.integer(key, default)
    if value is None or value < 1:
        raise ConfigurationError(f'dataset.{key}: expected an integer of at least 1, got {value}')
    return value


def _parse_holdout(fields: Fields) -> Holdout | None:
    if not fields.has('holdout'):
        return None
    section = fields.section('holdout')
    part, share, seed = section.text('part'), section.number('share'), section.integer('seed', 0)
    section.finish()
    check_choice('dataset.holdout.part', part, ('train', 'val'))
    if not 0 < share < 1:
        raise ConfigurationError(
            f'dataset.holdout.share: expected a number between 0 and 1, got {share!r}'
        )
    return Holdout(part, share, seed or 0)


def _parse_classes(value: Any, root: Path) -> tuple[tuple[str, ...] | None, tuple[Color, ...]]:
    """Names and colours from a list, a mapping of name to colour, or a file of names."""
    expected = 'a list of names, a mapping of names to [r, g, b], or a file with a name per line'
    if value is None:
        return None, ()
    if isinstance(value, str):
        value = read_names(root / value)
    if isinstance(value, (list, tuple)) and all(isinstance(name, str) for name in value):
        return tuple(value), ()
    if isinstance(value, dict) and all(isinstance(name, str) for name in value):
        if all(color is None for color in value.values()):
            return tuple(value), ()
        for name, color in value.items():
            is_color = isinstance(color, (list, tuple)) and len(color) == 3
            if not is_color or not all(type(v) is int and 0 <= v <= 255 for v in color):
                raise ConfigurationError(
                    f'dataset.classes.{name}: expected a colour [r, g, b] of 0 to 255, got '
                    f'{color!r}: give one to all classes or to none'
                )
        return tuple(value), tuple((c[0], c[1], c[2]) for c in value.values())
    raise ConfigurationError(f'dataset.classes: expected {expected}, got {value!r}')


def _parse_source_classes(value: Any) -> dict[int, str] | None:
    if value is None:
        return None
    if isinstance(value, (list, tuple)):
        value = dict(enumerate(value))
    if not isinstance(value, dict) or not all(
        type(i) is int and 0 <= i <= 65535 and isinstance(name, str) for i, name in value.items()
    ):
        raise ConfigurationError(
            'dataset.source_classes: expected a list of names or a mapping of mask values '
            f'(0 to 65535) to names, got {value!r}'
        )
    return value


def read_names(path: Path) -> list[str]:
    """The names in a file, one per line, blank lines left out.

    LabelMe's ``labels.txt`` begins with ``__ignore__``, which is no class and is left out.

    Raises:
        ConfigurationError: the file cannot be read or names nothing.
    """
    try:
        lines = path.read_text(encoding='utf-8').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f'{path}: cannot be read as a list of names: {error}') from None
    names = [line.strip() for line in lines if line.strip() and line.strip() != '__ignore__']
    if not names:
        raise ConfigurationError(f'{path}: expected one name per line, the file has none')
    return names


def dataset_configs(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The datasets of a configuration by part: ``train``, ``val``, ``test``.

    Takes a training configuration (its ``data`` section) or a mapping for one dataset. Keys
    beside the parts hold for all of them; a part's own win:

    .. code-block:: yaml

        data:
          layout: camvid
          root: data/camvid
          train: {split: train}
          val: {split: val}

    Returns:
        One mapping per part for ``open_dataset``; ``{'dataset': …}`` for a single dataset.

    Raises:
        ConfigurationError: there is neither.
    """
    section = config.get('data', config)
    if not isinstance(section, Mapping):
        raise ConfigurationError(f'data: expected a mapping, got {section!r}')
    parts = [name for name in SECTIONS if name in section]
    if not parts:
        if 'layout' in section:
            return {'dataset': dict(section)}
        raise ConfigurationError(
            "expected a 'data' section with train and val, or a single dataset with "
            f'layout and root, got the keys: {", ".join(map(str, config)) or "none"}'
        )
    shared = {key: value for key, value in section.items() if key not in SECTIONS}
    for name in parts:
        if not isinstance(section[name], Mapping):
            raise ConfigurationError(f'data.{name}: expected a mapping, got {section[name]!r}')
    return {name: {**shared, **section[name]} for name in parts}
