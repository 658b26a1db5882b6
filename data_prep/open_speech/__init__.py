"""Open speech of many languages: from the published sources to manifests for a seed model."""
