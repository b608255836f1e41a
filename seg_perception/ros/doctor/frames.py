"""Whether TF leads from the cameras to the robot: what was heard of it, and what that means."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from seg_perception.ros.doctor.finding import Finding, Gravity
from seg_perception.ros.mount import F64, transform_matrix

MAX_AGE_S = 1.0
"""Older transforms of moving parts no longer tell where the camera was."""
MAX_AHEAD_S = 0.1
_UNIT_TOLERANCE = 1e-3
_LOOKS_UP = 0.95
"""Cosine of an optical axis with the vertical above which a camera would look at the ceiling."""
_SHOW = 'ros2 run tf2_tools view_frames'


@dataclass(frozen=True, slots=True)
class Transform:
    """The newest message of a parent and a child.

    Attributes:
        parent: ``header.frame_id``.
        child: ``child_frame_id``.
        is_static: it came on ``/tf_static``.
        age_s: of its stamp when it was received; for static ones it means nothing.
        translation_m: x, y, z.
        rotation_xyzw: a quaternion.
    """

    parent: str
    child: str
    is_static: bool
    age_s: float = 0.0
    translation_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    rotation_xyzw: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 1.0)

    @property
    def complaint(self) -> str:
        """Why tf2 refuses it; empty where it does not."""
        numbers = (*self.translation_m, *self.rotation_xyzw)
        if not self.parent or not self.child:
            return 'a frame without a name'
        if self.parent == self.child:
            return 'the parent is the child'
        if self.parent.startswith('/') or self.child.startswith('/'):
            return "names of frames must not begin with '/'"
        if not all(map(math.isfinite, numbers)):
            return 'numbers that are not finite'
        if abs(math.hypot(*self.rotation_xyzw) - 1.0) > _UNIT_TOLERANCE:
            return 'a rotation that is no unit quaternion'
        return ''


def check_tree(transforms: Sequence[Transform]) -> list[Finding]:
    """What is wrong with the tree, whoever needs it; one finding that is OK where nothing is."""
    found = list(_tree_findings(transforms))
    if not found and transforms:
        children = {t.child for t in transforms}
        roots = sorted({t.parent for t in transforms} - children)
        what = f'{len(children) + len(roots)} frames below {", ".join(roots)}'
        found = [Finding('TF', Gravity.OK, what)]
    return found


def _tree_findings(transforms: Sequence[Transform]) -> Iterator[Finding]:
    for t in transforms:
        if t.complaint:
            what = f"'{t.parent}' to '{t.child}': {t.complaint}; tf2 ignores it"
            yield Finding('TF', Gravity.WARNING, what, 'correct its broadcaster')
    good = [t for t in transforms if not t.complaint]
    by_child: dict[str, list[Transform]] = {}
    for t in good:
        by_child.setdefault(t.child, []).append(t)
    for child, several in by_child.items():
        parents = sorted({t.parent for t in several})
        if len(parents) > 1:
            yield Finding(
                'TF',
                Gravity.WARNING,
                f"'{child}' has several parents, and jumps between them: {', '.join(parents)}",
                f'stop all broadcasters of it but one ({_SHOW})',
            )
        elif len(several) > 1:
            yield Finding(
                'TF',
                Gravity.WARNING,
                f"'{parents[0]}' to '{child}' comes on /tf and on /tf_static",
                f'stop one of the two broadcasters ({_SHOW})',
            )
    told: set[str] = set()
    parent_of = _parents(good)
    for child in by_child:
        chain = _chain(child, parent_of)
        loop = [t.child for t in chain]
        if chain and chain[-1].parent in loop:
            loop = loop[loop.index(chain[-1].parent) :]
            if told.isdisjoint(loop):
                what = f'a loop: {" -> ".join([*loop, loop[0]])}'
                yield Finding('TF', Gravity.ERROR, what, f'stop one of its broadcasters ({_SHOW})')
            told |= set(loop)


def check_frame(
    name: str,
    frame_id: str,
    base_frame: str,
    transforms: Sequence[Transform],
    *,
    is_needed: bool,
) -> list[Finding]:
    """What is to be said of one camera's place on the robot.

    Args:
        name: the camera's.
        frame_id: of its images; empty where they name none, of which others tell.
        base_frame: the robot's.
        transforms: all that were heard.
        is_needed: the node makes outputs with it; else only those who use its outputs do.
    """
    if not frame_id or (not transforms and not is_needed):
        return []
    return list(_frame_findings(name, frame_id, base_frame, transforms, is_needed=is_needed))


def _frame_findings(
    name: str,
    frame_id: str,
    base_frame: str,
    transforms: Sequence[Transform],
    *,
    is_needed: bool,
) -> Iterator[Finding]:
    check = f'{name}: TF'
    gravity = Gravity.ERROR if is_needed else Gravity.WARNING
    good = [t for t in transforms if not t.complaint]
    frames = {frame for t in good for frame in (t.parent, t.child)}
    if frame_id.startswith('/'):
        fix = f"set the driver's frame_id to '{frame_id.lstrip('/')}'"
        yield Finding(check, gravity, f"'{frame_id}': tf2 knows no names with '/' in front", fix)
        return
    if base_frame not in frames and good:
        close = difflib.get_close_matches(base_frame, sorted(frames), 1, cutoff=0.0)[0]
        yield Finding(
            check,
            gravity,
            f"nobody tells TF where '{base_frame}' is; there are {_listed(frames)}",
            f'-p base_frame:={close}, or start what publishes it (robot_state_publisher)',
        )
        return
    if frame_id not in frames:
        yield Finding(
            check,
            gravity,
            f"nobody tells TF where '{frame_id}' is, the frame of the images",
            f'ros2 run tf2_ros static_transform_publisher --frame-id {base_frame} '
            f'--child-frame-id {frame_id} --x … (an optical frame), or -p '
            f'{name}.mount_xyz_rpy:=[…]',
        )
        return
    parent_of = _parents(good)
    up, down = (_chain(frame, parent_of) for frame in (frame_id, base_frame))
    roots = [chain[-1].parent if chain else f for chain, f in ((up, frame_id), (down, base_frame))]
    if roots[0] != roots[1] and not _is_above(frame_id, down) and not _is_above(base_frame, up):
        yield Finding(
            check,
            gravity,
            f"'{frame_id}' (below '{roots[0]}') and '{base_frame}' (below '{roots[1]}') are not "
            'connected',
            f"publish where '{roots[0]}' is in the tree of '{base_frame}' (static_transform_"
            f'publisher, or the URDF), or -p {name}.mount_xyz_rpy:=[…]',
        )
        return
    path = [t for t in up if t not in down] + [t for t in down if t not in up]
    odd = [*_aged(check, path)]
    if not odd:
        odd = [*_not_optical(check, frame_id, base_frame, up, down, frames)]
    yield from odd
    if not odd:
        yield Finding(check, Gravity.OK, f"'{frame_id}' is known in '{base_frame}'")


def _aged(check: str, path: Sequence[Transform]) -> Iterator[Finding]:
    for t in path:
        if t.is_static or -MAX_AHEAD_S <= t.age_s <= MAX_AGE_S:
            continue
        when = f'{t.age_s:.1f} s old' if t.age_s > 0 else f'{-t.age_s:.1f} s ahead'
        fix = 'look after its broadcaster; between machines, synchronise the clocks (chrony)'
        if t.age_s > 1e6:
            fix = '-p use_sim_time:=true, as simulators and ros2 bag play --clock want it'
        yield Finding(
            check, Gravity.WARNING, f"'{t.parent}' to '{t.child}' is {when} on arrival", fix
        )


def _not_optical(
    check: str,
    frame_id: str,
    base_frame: str,
    up: Sequence[Transform],
    down: Sequence[Transform],
    frames: set[str],
) -> Iterator[Finding]:
    """A camera that looks straight up most often names its body's frame: x forward, z up."""
    turn = np.linalg.inv(_to_root(down)) @ _to_root(up)
    if not turn[2, 2] > _LOOKS_UP:
        return
    optical = sorted(f for f in frames if 'optical' in f and f != frame_id)
    there = f" (such as '{optical[0]}')" if optical else ''
    yield Finding(
        check,
        Gravity.WARNING,
        f"'{frame_id}' looks straight up in '{base_frame}': the frame of a camera's body (z up)? "
        'Images want its optical frame (z forward, REP 103)',
        f"set the driver's frame_id to the optical frame{there}; to make one: ros2 run tf2_ros "
        f'static_transform_publisher --roll -1.5708 --yaw -1.5708 --frame-id {frame_id} '
        f'--child-frame-id {frame_id}_optical',
    )


def _parents(good: Sequence[Transform]) -> Mapping[str, Transform]:
    """What leads up from each frame; the last one heard, as tf2 has it."""
    return {t.child: t for t in good}


def _chain(frame: str, parent_of: Mapping[str, Transform]) -> list[Transform]:
    """The way from a frame to its root; it ends where a loop closes."""
    chain: list[Transform] = []
    while frame in parent_of and parent_of[frame] not in chain:
        chain.append(parent_of[frame])
        frame = chain[-1].parent
    return chain


def _is_above(frame: str, chain: Sequence[Transform]) -> bool:
    return any(t.parent == frame for t in chain)


def _to_root(chain: Sequence[Transform]) -> F64:
    """The 4x4 transform from the frame where a chain begins to the one where it ends."""
    matrix = np.eye(4)
    for t in chain:
        matrix = transform_matrix(t.translation_m, t.rotation_xyzw) @ matrix
    return matrix


def _listed(frames: set[str], num_shown: int = 8) -> str:
    shown = sorted(frames)[:num_shown]
    return ', '.join(shown) + (f' and {len(frames) - num_shown} more' if len(frames) > 8 else '')
