"""Where models come from: the registry, folders, and the bundles that are kept on disk."""
