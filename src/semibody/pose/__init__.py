"""Poses: tables, files, drawing, fitting, and how a short gesture fills a long clip (floor 2)."""
