"""The only room that imports ray: ingest, prepare and train on a cluster."""
