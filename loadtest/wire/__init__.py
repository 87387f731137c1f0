"""The wire protocols that the tool speaks."""
