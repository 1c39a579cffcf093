"""What numbers are called and how they are read: one table of the scores, one of the diversity measures,
one of how near a mixture is to its target."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """A number that runs or datasets are compared by; ``digits`` are those that a table shows."""

    name: str  # its key in result.json, of a diversity measure after "diversity_"
    label: str
    unit: str = ""
    lower: bool = False  # is better, of a score; is more diverse, of a measure
    digits: int = 3
    long: str = ""  # the label where there is room for more

    @property
    def heading(self) -> str:
        return f"{self.label} ({self.unit})" if self.unit else self.label

    def __str__(self) -> str:
        return self.heading


class Scores(dict[str, Metric]):
    """Ours, the main one first; one of lm-eval's own, which is not in here, is called by its name there."""

    def __missing__(self, name: str) -> Metric:
        return Metric(name, name.replace("_", " "), lower=name.endswith("perplexity"))


METRICS = Scores(
    (metric.name, metric)
    for metric in (
        Metric("loss", "loss", "nats/token", lower=True),
        Metric("bits_per_byte", "bits per byte", lower=True),
        Metric("win_rate", "win rate"),
        Metric("lc_win_rate", "win rate at equal length", long="length-controlled win rate"),
        Metric("exact_match", "exact match"),
        Metric("task_score", "task score", long="score by the task's own rules"),
        Metric("rouge_l", "ROUGE-L"),
        Metric("accuracy", "accuracy"),
        Metric("own_over_other", "own over other", "nats/answer", digits=2),
        Metric("own_first", "own answer likelier", digits=2),
        Metric("blind_loss", "prompt-blind loss", "nats/token", lower=True),
    )
)
DIVERSITY = {
    metric.name: metric
    for metric in (
        Metric("ldd", "LDD", "nats/example", lower=True, long="log determinant distance"),
        Metric("ldd_untruncated", "LDD, nothing dropped", lower=True, digits=2),
        Metric("kept_share", "kept", "%", digits=1, long="kept share"),
        Metric("duplicate_share", "copies", "%", lower=True, digits=1, long="share of copies"),
        Metric("vendi", "Vendi score", digits=1),
        Metric("novelsum", "NovelSum"),
        Metric("mean_distance", "mean distance", long="mean pairwise distance"),
        Metric("knn_distance", "k-NN distance"),
        Metric("radius", "radius", digits=4),
        Metric("coverage", "coverage", long="coverage of the pool"),
        Metric("cluster_entropy", "cluster entropy", digits=2),
        Metric("task_entropy", "task entropy", digits=2),
    )
}
TOWARDS = {  # of a mixture with a query, in the embedding that it was chosen by; higher is nearer
    metric.name: metric
    for metric in (
        Metric("query_coverage", "query coverage", long="coverage of the query"),
        Metric("targets_covered", "targets covered", long="share of targets covered"),
    )
}
