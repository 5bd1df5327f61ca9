"""Architectures by name, their weights, tasks (model + loss) and bundles."""
