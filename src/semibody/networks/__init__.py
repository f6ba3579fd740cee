"""Pure torch: the networks of EchoMimicV2, sized by their configs (floor 2).

Read in this order: ``layers`` and ``attention``, ``unet`` (one U-Net for both roles),
``pose_encoder``, ``audio_encoders``, ``vae``, and ``model``, which puts them together.
Parameter names are Stable Diffusion's, so that published checkpoints load by name.
"""
