"""The fault suite: publishers and recovering subscribers run while a fault happens, and a checker decides."""
