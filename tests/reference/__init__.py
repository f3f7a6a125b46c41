"""Slow references, written from the formulas: float64, plain loops, nothing imported from the package under test."""
