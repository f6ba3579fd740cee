"""Semibody in ComfyUI: link or copy this folder into ``custom_nodes``, with ``semibody`` installed."""

from .nodes import comfy_entrypoint

__all__ = ["comfy_entrypoint"]
