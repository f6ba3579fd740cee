"""Motion modules of AnimateDiff for Stable Diffusion 1.5: ``mm_sd_v14``, ``v15``, ``v15_v2``, ``v3_sd15_mm``.

Their names are ours (``down_blocks.0.motion_modules.0.temporal_transformer…``); training checkpoints of
theirs put ``module.`` before them. The versions differ in what they have:

=======  ===========  =====================
version  middle       table of positions
=======  ===========  =====================
1        none         24 frames
2        one          32 frames
3        none         32 frames
=======  ===========  =====================

The table is computed here, for any number of frames, and never taken.
"""

from __future__ import annotations

from pathlib import Path

from semibody.types import SemibodyError
from semibody.weights.state import Published, State, read_state

MOTION_FILES = ("mm_sd_v15_v2.ckpt", "v3_sd15_mm.ckpt", "mm_sd_v15.ckpt", "mm_sd_v14.ckpt")

_MODULES = ".motion_modules."
_TABLE = ".pos_encoder.pe"
_REMEDY = "run: semibody weights fetch animatediff"


def read_motion(path: Path) -> Published:
    """The motion modules in a file, under our names. Raises SemibodyError for what holds none for SD 1.5."""
    state = {key.removeprefix("module."): value for key, value in read_state(path).items()}
    modules = {key: value for key, value in state.items() if _MODULES in key}
    if not modules:
        raise SemibodyError(f"{path}: holds no motion modules of AnimateDiff; {_REMEDY}")
    if any("lora" in key.lower() for key in modules):
        raise SemibodyError(f"{path}: is a LoRA for motion modules, not motion modules; {_REMEDY}")
    levels = {key.split(".")[1] for key in modules if key.startswith("down_blocks.")}
    if levels != {"0", "1", "2", "3"}:
        raise SemibodyError(
            f"{path}: its motion modules are for another network than Stable Diffusion 1.5, which has four "
            f"levels, not {len(levels)}; {_REMEDY}"
        )
    taken: State = {key: value for key, value in modules.items() if not key.endswith(_TABLE)}
    return Published(path, taken, tuple(key for key in state if key not in taken))
