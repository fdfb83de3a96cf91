"""Audio-visual speech separation: a film in which people talk over each other, and one clean track of each face."""

from collections.abc import Mapping
from typing import Any

from workloads.av_separation import config
from workloads.contract import Needs, Report, Run, Verb

VERBS: Mapping[str, Verb] = {
    "train": Verb("train a model", config.Train),
    "evaluate": Verb("measure a model on held-out mixtures, with and without lips", config.Evaluate),
    "separate": Verb("write one clean track of each face in a film", config.Separate),
    "benchmark": Verb("measure how fast a model is", config.Benchmark),
    "export": Verb("write a model as ONNX, and say how far it is from torch", config.Export),
}


class AvSeparation:
    """The workload. torch is imported by what runs, not here."""

    name = "av_separation"
    summary = "audio-visual speech separation: one clean track of each face"
    verbs = VERBS

    def plan(self, verb: str, settings: Any) -> Needs:
        from workloads.av_separation.planning import needs

        return needs(verb, settings)

    def run(self, verb: str, settings: Any, run: Run) -> Report:
        match verb:
            case "train":
                from workloads.av_separation.train import run_train

                return run_train(settings, run)
            case "evaluate":
                from workloads.av_separation.evaluate import run_evaluate

                return run_evaluate(settings, run)
            case "separate":
                from workloads.av_separation.separate import run_separate

                return run_separate(settings, run)
            case "benchmark":
                from workloads.av_separation.benchmark import run_benchmark

                return run_benchmark(settings, run)
            case _:
                from workloads.av_separation.export import run_export

                return run_export(settings, run)


WORKLOAD = AvSeparation()
