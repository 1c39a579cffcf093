"""How SMART's first stage sees a task: a vector of each."""

from smartdpp.task_vectors.mean import Mean
from smartdpp.task_vectors.task2vec import Task2Vec

__all__ = ["Mean", "Task2Vec"]
