from smartdpp.errors import did_you_mean


def test_names_that_are_spelled_alike_are_offered_and_all_where_there_is_none() -> None:
    known = ["smart", "smarter", "dpp"]
    assert did_you_mean("smrt", known) == "did you mean smart?"
    assert did_you_mean("smrt", known, most=3) == "did you mean smart or smarter?"
    assert did_you_mean(["dp", "smrt", "dpq"], iter(known)) == "did you mean dpp or smart?"
    assert did_you_mean("zzz", known) == "choose one of smart, smarter, dpp"
    assert did_you_mean("zzz", known, "it has 3") == "it has 3"
