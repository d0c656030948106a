"""The checks of `ml-assets doctor`, one file per subject."""
