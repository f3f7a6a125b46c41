"""Metrics of perceptual correspondence."""
