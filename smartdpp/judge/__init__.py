"""Which of two answers to an instruction is better: by a server that speaks OpenAI's protocol, a causal model
on this machine, or a reward model."""

from smartdpp.judge.endpoint import Endpoint as Endpoint
from smartdpp.judge.local import Local as Local
from smartdpp.judge.reward import Reward as Reward
