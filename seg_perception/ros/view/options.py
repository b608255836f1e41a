"""The viewer's parameters."""

from __future__ import annotations

from dataclasses import dataclass

from seg_perception.ros.options import option


@dataclass(frozen=True)
class ViewOptions:
    """Parameters of the viewer; all are read when it starts."""

    cameras: tuple[str, ...] = option(
        ('',), "Names or namespaces of the cameras to show; [''] for all."
    )
    host: str = option(
        '127.0.0.1', 'Address to serve the page on; 0.0.0.0 for all of this machine.'
    )
    page_port: int = option(
        9090, 'Port of the page; 0 for any free one.', minimum=0, maximum=65535
    )
    data_port: int = option(
        9876, "Port of the page's data; 0 for any free one.", minimum=0, maximum=65535
    )
    memory_mib: int = option(
        64,
        'What was drawn is kept for browsers that come late, up to so many MiB.',
        minimum=16,
        maximum=65536,
    )
    has_page: bool = option(True, 'Whether there is a page; else only a file.')
    save_path: str = option('', 'File (.rrd) to record to; empty for none.')
    max_rate_hz: float = option(
        10.0, 'Frames of a camera drawn per second, at most.', minimum=0.1, maximum=1000.0
    )
    max_side_px: int = option(
        1280, 'Larger images are drawn smaller, pixels.', minimum=64, maximum=16384
    )
    max_points: int = option(
        60_000, 'Larger clouds are thinned out, points.', minimum=1, maximum=10_000_000
    )
    images: str = option(
        'auto',
        'How camera images are sent to the page: raw, or as jpeg, which is less to send and more '
        'to draw; auto is raw where the page is for this machine alone.',
        choices=('auto', 'raw', 'jpeg'),
    )
    duration_s: float = option(0.0, 'Seconds to run; 0 for ever.', minimum=0.0)
    prints_json: bool = option(
        False, 'Print a summary as JSON at the end, and all else on stderr.'
    )
