"""Builds a running prox from a configuration, swaps it for another, and lets it end."""
