"""Rendered people who speak and gesture, with everything about them known.

``assets`` (the MakeHuman pack) -> ``person`` (one fitted, textured person) -> ``speech`` and ``motion``
(tracks over time) -> ``render`` (pictures) -> ``clip`` (a clip with its truth) -> ``produce`` (a data set).
"""
