"""Training the networks: one recipe, one command, every stage resumable.

``recipe`` (settings) -> ``curriculum`` (APDH and HPA as functions of the step) and ``losses`` (PhD)
-> ``samples`` and ``crops`` (the batch of a step) -> ``stages`` (autoencoder, keypoints, stills,
…: one class each) -> ``loop`` (optimiser, checkpoints, logs) -> ``trainer`` (all stages of a recipe, report).
"""
