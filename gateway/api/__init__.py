"""The HTTP API: what backends and operators ask of the cluster.

`routes` puts it together; `api_endpoint` reads a request and writes the answer, `access` checks its key, `methods`
decodes it, `request_shapes` and `result_shapes` have the shapes. The other modules carry out methods. Imports the node
and what all share; knows no session.
"""
