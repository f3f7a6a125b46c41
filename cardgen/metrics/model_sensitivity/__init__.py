"""Metrics of model sensitivity."""
