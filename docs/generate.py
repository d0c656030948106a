"""Write the JSON Schema and the reference of declarations from their types: `make reference`."""  # noqa: INP001 - a script

from pathlib import Path

from ml_assets.declaration import schema
from ml_assets.declaration.reference import reference

schema.PATH.write_text(schema.schema_text(), encoding="utf-8")
(Path(__file__).parent / "reference.md").write_text(reference(), encoding="utf-8")
