"""Training data (floor 4): the manifest, real video, and rendered people with known truth."""
