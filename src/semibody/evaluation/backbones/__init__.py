"""The networks that standard metrics are defined by, to be filled with their published weights.

Parameter names are those of the published state dicts, so that the files load without a table.
"""
