"""Metrics of input sensitivity."""
