"""Measure exported models: attacks, predictions through an endpoint, and the gap between two test sets."""
