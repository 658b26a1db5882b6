"""The way of the data: manifests, preparation, loading, batching, distortion."""
