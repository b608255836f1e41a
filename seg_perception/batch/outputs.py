"""What is made of a segmented picture: files for people and for programs.

``OUTPUTS`` is the table. All of them come from the same `Picture`; adding one is one line.

Legend: Y/X pixels, C classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from seg_perception.errors import ConfigurationError
from seg_perception.imaging.picture_files import encode_index_mask
from seg_perception.postprocess import draw_overlay, select_objects
from seg_perception.structures import BACKGROUND_NAMES, U8, ClassTable, Frame, Labels, Segmentation

_JPEG_QUALITY = 92


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A segmented picture.

    Attributes:
        image_rgb: (Y, X, 3) uint8, upright.
        segmentation: of the same size.
    """

    image_rgb: U8
    segmentation: Segmentation

    def overlay(self) -> U8:
        """The picture with the classes painted over it, RGB."""
        result = self.segmentation
        frame = Frame.from_array(self.image_rgb)
        return draw_overlay(frame, result.labels_YX, result.classes, objects=result.objects)


@dataclass(frozen=True, slots=True)
class Output:
    """A kind of file, one for each picture.

    Attributes:
        suffix: what is put behind the name of the picture's results.
        meaning: for people.
        encode: makes the file's bytes.
        needs: what the model has to give, where not all do.
    """

    suffix: str
    meaning: str
    encode: Callable[[Picture], bytes]
    needs: str = ''


def encode_jpeg(image_rgb: U8) -> bytes:
    """A JPEG of an RGB image."""
    return _encode('.jpg', image_rgb[..., ::-1], cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY)


def encode_png(image_rgb: U8) -> bytes:
    """A PNG of an RGB image."""
    return _encode('.png', image_rgb[..., ::-1])


def _overlay_jpeg(picture: Picture) -> bytes:
    return encode_jpeg(picture.overlay())


def _overlay_png(picture: Picture) -> bytes:
    return encode_png(picture.overlay())


def _labels_png(picture: Picture) -> bytes:
    result = picture.segmentation
    return encode_index_mask(result.labels_YX, result.classes.palette_rgb())


def _confidence_png(picture: Picture) -> bytes:
    assert picture.segmentation.confidence_YX is not None
    return _encode('.png', picture.segmentation.confidence_YX)


def _instances_png(picture: Picture) -> bytes:
    assert picture.segmentation.objects is not None
    return _encode('.png', picture.segmentation.objects.instances_YX)


def _encode(suffix: str, image: npt.NDArray[np.generic], *parameters: int) -> bytes:
    is_encoded, data = cv2.imencode(suffix, np.ascontiguousarray(image), parameters)
    assert is_encoded
    return data.tobytes()


OUTPUTS: Mapping[str, Output] = {
    'overlay': Output('.overlay.jpg', 'the picture with its classes painted over', _overlay_jpeg),
    'overlay-png': Output('.overlay.png', 'the same without losses', _overlay_png),
    'labels': Output(
        '.labels.png', 'the class id of every pixel, with a palette (classes.csv)', _labels_png
    ),
    'confidence': Output(
        '.confidence.png', 'how sure the model is, 0 to 255', _confidence_png, 'scores'
    ),
    'instances': Output(
        '.instances.png',
        'the number of the object at every pixel, 16 bits',
        _instances_png,
        'objects',
    ),
}
"""Files that every photograph gets, by name."""

COCO, SHEET = 'coco', 'sheet'
CHOICES: Mapping[str, str] = {
    **{name: output.meaning for name, output in OUTPUTS.items()},
    COCO: 'coco.json, a dataset, and coco_results.json, of all pictures',
    SHEET: 'contact_sheet.jpg, of up to 24 pictures',
}
"""What can be asked for, with its meaning."""
DEFAULT_CHOICES = ('overlay', 'labels', SHEET)


def check_choices(
    choices: Sequence[str], model: str, *, has_scores: bool, has_objects: bool
) -> None:
    """Checks that a model gives what is asked for.

    Raises:
        ConfigurationError: it does not.
    """
    for choice in choices:
        needs = OUTPUTS[choice].needs if choice in OUTPUTS else ''
        if (needs == 'scores' and not has_scores) or (needs == 'objects' and not has_objects):
            raise ConfigurationError(
                f'outputs: expected none that the model cannot give, {choice} needs {needs} and '
                f'{model} gives none: leave it out, or choose another model'
            )


class ClassChoice:
    """Leaves some classes in segmentations, and makes nothing of all others.

    Args:
        classes: the model's.
        names: which to keep; all where empty.

    Raises:
        ConfigurationError: the model has no such class.
    """

    def __init__(self, classes: ClassTable, names: Sequence[str]) -> None:
        self.ids = tuple(classes.id_of(name) for name in names)
        self._table: Labels = np.full(
            np.iinfo(classes.label_dtype).max + 1, classes.nothing_id, classes.label_dtype
        )
        kept = [*self.ids, classes.unlabeled_id, classes.nothing_id]
        self._table[kept] = kept

    def of(self, segmentation: Segmentation) -> Segmentation:
        """The segmentation with these classes only."""
        if not self.ids:
            return segmentation
        objects = segmentation.objects
        if objects is not None:
            names = segmentation.classes.names
            wanted = [i for i in self.ids if names[i] not in BACKGROUND_NAMES]
            objects = select_objects(objects, segmentation.classes, wanted, min_area_px=1)
        return dataclasses.replace(
            segmentation, labels_YX=self._table[segmentation.labels_YX], objects=objects
        )


def count_pixels(segmentation: Segmentation) -> list[int]:
    """Pixels of each class, and of none at the end."""
    num_classes = len(segmentation.classes)
    counts = np.bincount(segmentation.labels_YX.reshape(-1), minlength=num_classes)
    unlabeled = int(counts[num_classes:].sum())
    return [*counts[:num_classes].tolist(), unlabeled]
