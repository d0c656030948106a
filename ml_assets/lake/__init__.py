"""The lake: versioned artifacts on disk and S3, with manifests, order records and the promotion log."""
