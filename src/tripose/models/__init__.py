"""The learned networks."""
