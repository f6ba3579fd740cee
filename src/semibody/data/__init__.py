"""Training data (floor 3): the manifest, real video, and rendered people with known truth."""
