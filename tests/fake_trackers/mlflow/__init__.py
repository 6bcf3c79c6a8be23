"""A stand-in for MLflow."""

from types import SimpleNamespace

from fake import heard


class MlflowClient:
    def __init__(self, tracking_uri):
        self.kind = tracking_uri.partition(":")[0]

    def get_experiment_by_name(self, name):
        return None

    def create_experiment(self, name):
        heard("mlflow", "experiment", name=name)
        return "7"

    def search_runs(self, experiments, query, max_results):
        return []

    def create_run(self, experiment, run_name, tags):
        heard("mlflow", "start", name=run_name, tags=tags)
        return SimpleNamespace(info=SimpleNamespace(run_id=run_name))

    def log_batch(self, run, params=(), metrics=()):
        heard(
            "mlflow",
            "log" if metrics else "config",
            run=run,
            params=dict(params),
            metrics=[m[::3] + m[1:2] for m in metrics],
        )

    def set_terminated(self, run, status):
        heard("mlflow", "finish", run=run, status=status)
