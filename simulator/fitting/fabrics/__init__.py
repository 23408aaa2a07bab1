"""Fits of fabric calibrations on published or a user's own measurements of single operations."""
