"""The kinds of training: small images in memory, ImageNet, detection. What each has of its own."""
