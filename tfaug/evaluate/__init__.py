"""Measure exported models: attacks, and predictions through an endpoint."""
