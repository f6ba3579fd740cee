"""Training the networks: one recipe, one command, every stage resumable.

``recipe`` (settings) -> ``curriculum`` (APDH and HPA as functions of the step) and ``losses`` (PhD)
-> ``samples`` (what a step shows the networks) -> ``tasks`` (autoencoder, keypoints, stills, motion)
-> ``loop`` (optimiser, checkpoints, logs) -> ``trainer`` (all stages of a recipe, export, report).
"""
