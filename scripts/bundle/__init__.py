"""What a hospital without a way to the internet installs from: images, wheels, weights, templates, signed."""
