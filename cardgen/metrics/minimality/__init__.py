"""Metrics of minimality."""
