"""Files <-> named tensors; independent of the networks (floor 1).

``store`` is our own folder of safetensors, ``official`` reads the published EchoMimicV2 files,
``hub`` fetches them, ``state`` fills a module and names everything that does not fit.
"""
