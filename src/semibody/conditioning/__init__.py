"""From a portrait, its pose and the poses of frames to what the networks are conditioned on (floor 3).

``evidence`` reads the model's switches and gives arrays; ``clip`` gives the networks' conditions of a whole
clip; ``flops`` counts the work. Animating, training and counting all go through here.
"""
