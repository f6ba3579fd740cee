"""Files of poses, one format a module: ``published``, ``own``, ``openpose``, ``wholebody``.

A reader gives every person of every frame as the file holds them (``reading.Found``); what all formats have
in common, such as the choice of the person and of the unit, is in ``reading.assemble``.
"""
