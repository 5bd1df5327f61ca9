"""Bundles that were shipped, which one is current, and which of several to ship."""
