"""What is served at `/`: with `demo` a chat in one HTML file, otherwise a text. Imports the node."""
