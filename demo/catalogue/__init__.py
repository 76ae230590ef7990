"""Draws the demo catalogue: shapes, scenes and the product feed."""
