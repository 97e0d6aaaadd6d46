"""Code of others, run in a worker process (`assay.isolation`) that has imported little."""
