import pytest

from smartdpp.errors import InputError
from smartdpp.evaluation.ability import Ability


def test_its_tasks_are_the_documents_of_an_arena():
    assert Ability().heldout(["gcd", "target/gcd"]) == ["target/gcd"]
    assert Ability(tasks=["gcd"]).heldout(["gcd", "target/gcd"]) == ["gcd"]
    with pytest.raises(InputError, match="no task of the corpus begins with 'target/'"):
        Ability().heldout(["gcd", "lcm"])
