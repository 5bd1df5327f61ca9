"""From bytes to pixels to tensors: formats, decoding, colour, transforms, augmentation, boxes, quality, fingerprints."""

from prodrec.torchvision_import import without_compiler

without_compiler()
