"""How the networks are used elsewhere: SavedModels that TensorFlow Serving takes as they are, what
a server wants beside them, a client, and a stand-in for the server."""
