"""How other programs see an experiment: W&B, TensorBoard, MLflow and the journal of Optuna."""
