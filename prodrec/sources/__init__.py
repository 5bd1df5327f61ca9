"""What the user has, as tables: layouts of folders, annotations, manifests, listings. No image is opened to list it."""
