import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from smartdpp.corpus.flan2022 import SUBMIXTURES, Flan2022
from smartdpp.errors import InputError


@pytest.fixture
def copies(tmp_path):
    """A small copy of the five submixtures: two template pools each, and one row that all of them share."""
    for name in SUBMIXTURES:
        data = tmp_path / f"{name}-submix-4096" / "data"
        data.mkdir(parents=True)
        table = pa.table(
            {
                "inputs": [f"{name} question", "shared question"],
                "targets": ["answer", "answer"],
                "task_source": [name.upper()] * 2,
                "task_name": [f"{name}_task", "shared_task"],
                "template_type": ["zs_opt", "fs_noopt"],
            }
        )
        pq.write_table(table, data / "train-00000-of-00001.parquet")
    return tmp_path


def test_task_names_and_template_types_are_kept(copies):
    flan = Flan2022(path=str(copies))
    assert flan.check() == []
    found = list(flan.rows())
    assert len({row["id"] for row in found}) == len(found) == 10
    assert [row["task"] for row in found[::2]] == [f"{name}_task" for name in SUBMIXTURES]
    assert {row["template"] for row in found} == {"zs_opt", "fs_noopt"}
    assert [row["dataset"] for row in found[::2]] == ["FLAN2021", "T0", "NIV2", "COT", "DIALOG"]
    assert found[4]["source"] == "kowndinya23/niv2-submix-4096"


def test_a_choice_of_submixtures_and_what_is_wrong_with_one(copies):
    assert [row["task"] for row in Flan2022(["cot"], path=str(copies)).rows()] == ["cot_task", "shared_task"]
    with pytest.raises(InputError, match="give one or more of flan2021, t0, niv2, cot, dialog"):
        Flan2022(["flan2022"])
    with pytest.raises(InputError, match=r"corpus.revisions names \['t0'\]"):
        Flan2022(["cot"], revisions={"t0": "abc"})
    (copies / "t0-submix-4096").rename(copies / "elsewhere")
    assert "t0-submix-4096" in Flan2022(path=str(copies)).check()[0]


def test_on_the_hub_by_default_with_pinned_revisions():
    flan = Flan2022(["t0", "cot"], revisions={"cot": "abc"})
    assert flan.check() == []
    assert flan.fingerprint() == "kowndinya23/t0-submix-4096@main kowndinya23/cot-submix-4096@abc"


def test_of_each_submixture_a_share_may_be_left_out(copies):
    path = copies / "cot-submix-4096" / "data" / "train-00000-of-00001.parquet"
    table = pq.read_table(path)
    pq.write_table(table.set_column(1, "targets", pa.array(["answer", None])), path)
    with pytest.raises(InputError, match=r"1 of 2 rows \(50.0%\) cannot be read \(1 without response\)"):
        list(Flan2022(path=str(copies), on_bad_row="drop").rows())
    assert len(list(Flan2022(path=str(copies), on_bad_row="drop", max_bad_share=0.5).rows())) == 9
