"""Clips on disk (floor 2): the manifest that lists them and the truth that is known of them.

``data`` makes and reads such clips, ``evaluation`` compares generated ones with them; both use these
types.

``manifest``  one line a clip: ``read_lines`` for any manifest, ``read_manifest`` for that of a data set
``truth``     the mouth's opening and the boxes of face and hands, frame by frame
``mouth``     how far a mouth is open, and how well that follows another course
"""
