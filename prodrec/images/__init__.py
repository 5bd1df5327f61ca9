"""From bytes to pixels to tensors: formats, decoding, colour, transforms, augmentation, boxes, quality, fingerprints."""
