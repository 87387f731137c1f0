"""Settings: what they are (`settings`), where they come from (`sources`), and which may change (`reloading`).

`checks` finds what is dangerous in them, `misspellings` what an unknown variable means; `schema` and `description` are
for tools and docs; the other modules read addresses and URLs. Imports errors only.
"""
