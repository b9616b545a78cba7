"""Layers and functions that two or more papers share."""
