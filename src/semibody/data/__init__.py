"""Training data (floor 3): the manifest, real video (ingest), rendered people with known truth (synthetic)."""
