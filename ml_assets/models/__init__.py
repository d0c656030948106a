"""One declared model: its plan, how it is trained and judged, its champion, and what it has cost."""
