"""The flow of one model up to its features and labels, planned as `ml-assets run` plans it.

Training and what follows stays out; see `ml_assets.cli.flow`.
"""

from collections.abc import Callable

from ml_assets.cli.flow import Flow, Span
from ml_assets.provenance.staleness import upstream_of


class InputsFlow(Flow):
    """Runs what a model is made of: raw tables, dbt's tables, features and labels."""

    def make_inputs(self, span: Span, say: Callable[[str], None]) -> bool:
        """Materialize what is missing or out of date; False as soon as a run fails."""
        inputs = self._inputs(span)
        upstream = upstream_of(self.graph, inputs)
        raw = {key: keys for key, keys in upstream.items() if not self.graph.get(key).parent_keys}
        tables = {key: keys for key, keys in upstream.items() if key not in raw}
        groups = (("raw", raw), ("tables", tables), ("features and labels", inputs))
        return all(self._group(name, wanted, span, say) for name, wanted in groups)
