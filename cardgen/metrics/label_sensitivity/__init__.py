"""Metrics of label sensitivity."""
