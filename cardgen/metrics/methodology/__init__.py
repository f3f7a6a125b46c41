"""Metrics of methodology."""
