"""Files <-> named tensors; knows no network (floor 1).

``store`` is our own folder of safetensors, ``official`` reads the published EchoMimicV2 files,
``hub`` fetches them, ``state`` fills a module and names everything that does not fit.
"""
