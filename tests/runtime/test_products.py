"""Which library makes a model's float32 products."""

from __future__ import annotations

import pytest
import torch

from smartdpp.runtime import products
from smartdpp.runtime.products import ROUNDING, quick_products


@pytest.fixture
def inside():
    """torch's precision in the context, and before and after it."""

    def look() -> tuple[str, str, str]:
        before = torch.get_float32_matmul_precision()
        with quick_products():
            now = torch.get_float32_matmul_precision()
        return before, now, torch.get_float32_matmul_precision()

    products._by_onednn.cache_clear()
    yield look
    products._by_onednn.cache_clear()
    torch.set_float32_matmul_precision("highest")


def test_products_are_float32s_whatever_makes_them(inside):
    x, y = torch.randn(96, 300), torch.randn(300, 200)
    exact = x.double() @ y.double()
    with quick_products():
        assert (x @ y - exact).abs().max() <= ROUNDING * exact.abs().max()


@pytest.mark.parametrize(
    ("cpu", "gpu", "taken"),
    [("znver5", False, True), ("znver5", True, False), ("sapphirerapids", False, False)],
)
def test_onednn_is_asked_on_amds_processors_alone_and_not_beside_a_gpu(inside, monkeypatch, cpu, gpu, taken):
    monkeypatch.setattr("llvmlite.binding.get_host_cpu_name", lambda: cpu)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(products, "ROUNDING", 1.0)  # here it may be that "medium" rounds
    assert inside() == ("highest", "medium" if taken else "highest", "highest")


def test_it_is_not_asked_where_it_rounds(inside, monkeypatch):
    monkeypatch.setattr("llvmlite.binding.get_host_cpu_name", lambda: "znver5")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(products, "ROUNDING", 0.0)  # no library is as exact
    assert inside() == ("highest", "highest", "highest")


def test_what_the_user_has_set_stays(inside, monkeypatch):
    monkeypatch.setattr(products, "_by_onednn", lambda: True)
    torch.set_float32_matmul_precision("high")
    assert inside() == ("high", "high", "high")


def test_an_error_puts_it_back(inside, monkeypatch):
    monkeypatch.setattr(products, "_by_onednn", lambda: True)
    with pytest.raises(ValueError, match="broke"), quick_products():
        raise ValueError("broke")
    assert torch.get_float32_matmul_precision() == "highest"
