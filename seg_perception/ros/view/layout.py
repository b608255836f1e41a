"""How the page is laid out: cameras above, curves and what is waited for below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from seg_perception.ros.view.rerun_sdk import load_rerun

WINDOW_S = 30
"""How far back the curves go."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What is shown of a camera.

    Attributes:
        name: the camera's.
        has_confidence: whether it has confidence.
        has_space: whether it has points or boxes in space.
    """

    name: str
    has_confidence: bool = False
    has_space: bool = False


def lay_out(cameras: Sequence[Shown], timeline: str) -> Any:
    """The page for these cameras."""
    rr, rrb = load_rerun()
    status = rrb.TextDocumentView(origin='/status', name='status')
    if not cameras:
        return _page(status, timeline)
    if len(cameras) == 1:
        views = _views(cameras[0])
        shares = [3, *([3] if cameras[0].has_space else []), *([2] * cameras[0].has_confidence)]
        above = rrb.Horizontal(*views, column_shares=shares[: len(views)])
    else:
        above = rrb.Grid(
            *(rrb.Tabs(*_views(camera), name=camera.name) for camera in cameras),
            name='cameras',
        )
    shares = [
        _curves(
            f'classes/{rr.escape_entity_path_part(camera.name)}',
            f'{camera.name}: % of image',
            timeline,
            (0.0, 100.0),
        )
        for camera in cameras
    ]
    curves = [
        _curves('latency', 'latency, ms', timeline),
        _curves('rate', 'rate, Hz', timeline),
        *([rrb.Tabs(*shares, name='classes')] if len(shares) > 1 else shares),
    ]
    below = rrb.Horizontal(*curves, status)
    return _page(rrb.Vertical(above, below, row_shares=[7, 3]), timeline)


def _page(content: Any, timeline: str) -> Any:
    _, rrb = load_rerun()
    return rrb.Blueprint(
        content,
        rrb.BlueprintPanel(state='collapsed'),
        rrb.SelectionPanel(state='collapsed'),
        rrb.TimePanel(state='collapsed', timeline=timeline, play_state='following'),
        auto_views=False,
        auto_layout=False,
    )


def _views(camera: Shown) -> list[Any]:
    rr, rrb = load_rerun()
    name = rr.escape_entity_path_part(camera.name)
    origin = f'/{name}/camera'
    views = [
        rrb.Spatial2DView(
            origin=origin,
            contents=[f'{origin}/image', f'{origin}/labels', f'{origin}/objects'],
            name=camera.name,
        )
    ]
    if camera.has_space:
        views.append(
            rrb.Spatial3DView(
                origin=f'/{name}',
                contents=[
                    f'/{name}/points',
                    f'/{name}/boxes',
                    origin,
                    f'{origin}/image',
                ],
                name=f'{camera.name}: space',
                # Over the camera's shoulder.
                eye_controls=rrb.EyeControls3D(
                    position=(1.1, -1.3, -1.2),
                    look_target=(0.0, 0.1, 2.5),
                    eye_up=(0.0, -1.0, 0.0),
                ),
                line_grid=False,
            )
        )
    if camera.has_confidence:
        views.append(
            rrb.Spatial2DView(
                origin=origin, contents=[f'{origin}/confidence'], name=f'{camera.name}: confidence'
            )
        )
    return views


def _curves(
    path: str, name: str, timeline: str, range_y: tuple[float, float] | None = None
) -> Any:
    _, rrb = load_rerun()
    window = rrb.VisibleTimeRange(
        timeline,
        start=rrb.TimeRangeBoundary.cursor_relative(seconds=-WINDOW_S),
        end=rrb.TimeRangeBoundary.cursor_relative(),
    )
    return rrb.TimeSeriesView(
        origin=f'/plots/{path}',
        name=name,
        time_ranges=window,
        axis_y=None if range_y is None else rrb.ScalarAxis(range=range_y),
        plot_legend=rrb.PlotLegend(corner=rrb.Corner2D.LeftTop),
    )
