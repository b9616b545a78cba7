"""Deployment: SavedModels for TensorFlow Serving, the server's configuration files, a client, and a
stand-in for the server."""
