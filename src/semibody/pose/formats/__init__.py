"""Files of poses, one format a module: ``published``, ``own``, ``openpose``, ``wholebody``.

A reader gives every person of every frame as the file holds them (``reading.Found``); what all formats
have in common, such as whom to take and which unit the numbers are in, is ``reading.assemble``'s.
"""
