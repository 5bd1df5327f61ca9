"""How people lay out their images and annotations: a file for each family of formats, and the table of them all. No image is opened."""
