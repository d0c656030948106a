"""What tables and artifacts must look like; no storage and no orchestration."""
