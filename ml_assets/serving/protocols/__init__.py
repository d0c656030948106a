"""How rows come in and scores go out: own JSON, Open Inference Protocol, MLflow and Arrow."""
