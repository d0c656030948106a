"""Where artifacts come from: code versions, what is out of date, lineage, replay, reproduction, retention."""
