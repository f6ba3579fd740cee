"""Where OpenPose-18 and iBUG-68 points sit on the base mesh hm08: fixed vertex numbers.

The face's were found by rendering 40 people from the front, detecting the points in the pictures, and
taking for each point the visible vertex nearest to it over all people (lips: of the lip that moves alike).
"""

from __future__ import annotations

FACE_VERTICES = (
    5739, 5735, 5673, 5205, 5241, 5298, 5297, 5293, 5296,
    11899, 11902, 11903, 11850, 11816, 11792, 12332, 12336,
    261, 225, 224, 205, 208, 6983, 6980, 6981, 6999, 7030,
    132, 134, 5063, 294, 601, 285, 307, 7076, 7338,
    4854, 6, 54, 4871, 47, 1067, 11489, 6838, 6790, 6809, 7759, 6831,
    3736, 5354, 456, 455, 7215, 11956, 10404, 7239, 7241, 492, 486, 484,
    3732, 470, 474, 7226, 10400, 7280, 523, 535,
)  # fmt: skip
"""The 68 points in iBUG order (the person's right side first)."""

EAR_VERTICES = (5439, 12038)
"""Right and left ear."""

HIP_VERTICES = (14286, 13846)
"""Right and left hip joint."""
