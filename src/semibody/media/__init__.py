"""Files <-> arrays: video, audio, image. The only importer of PyAV and Pillow (floor 1)."""
