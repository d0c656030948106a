"""Where artifacts come from: code versions, lineage, traces, replay, reproduction, cost and garbage collection."""
