"""The demo page: a chat in one HTML file, served only with `demo`. Imports the node."""
