"""What `ml-assets doctor` looks at: one file a place."""
