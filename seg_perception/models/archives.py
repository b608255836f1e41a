"""Archives that claim to be torch checkpoints, looked at before anything is unpacked."""

from __future__ import annotations

import zipfile
from pathlib import Path

from seg_perception.errors import WeightsError


def check_archive(path: Path) -> None:
    """Refuses a zip archive that would unpack to more than it is.

    ``torch.save`` stores its entries as they are, so a compressed entry, or entries that together
    are larger than the file because they overlap, are there to fill the memory. A file that is
    no zip archive passes.

    Raises:
        WeightsError: the archive is damaged or such a one.
    """
    try:
        if not zipfile.is_zipfile(path):
            return
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except Exception as error:  # zipfile's own, and what damaged archives lead it to
        raise WeightsError(f'{path}: is a damaged zip archive: {error}') from error
    compressed = [e.filename for e in entries if e.compress_type != zipfile.ZIP_STORED]
    num_bytes = sum(entry.file_size for entry in entries)
    if compressed or num_bytes > path.stat().st_size:
        found = f'{compressed[0]!r} compressed' if compressed else f'{num_bytes} B of overlapping'
        raise WeightsError(
            f'{path}: expected an archive as torch.save writes it, whose entries are stored as '
            f'they are, got {found} entries: refused, because unpacking it could fill the memory. '
            f'If you trust it, load and save it anew on a machine that may run it'
        )
