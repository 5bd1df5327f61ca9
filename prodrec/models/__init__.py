"""Architectures by name, their weights, tasks (model + loss) and bundles."""

from prodrec.torchvision_import import without_compiler

without_compiler()
