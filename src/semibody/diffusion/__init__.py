"""The denoising process. Takes callables and tensors, never networks (floor 2).

``process`` holds the formulas, ``schedule`` builds a solver, ``windows`` cuts a long clip into overlapping
windows, ``guidance`` combines two predictions, ``spread`` shares a step's windows among devices, ``sample``
runs it all. A denoiser is any callable ``denoise(latents, t, window) -> prediction``.
"""
