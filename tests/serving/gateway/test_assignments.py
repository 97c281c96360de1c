"""What a request is answered by, of the experiments that run."""

from __future__ import annotations

from serving.experiments.declaration import Experiment
from serving.gateway.assignments import Assignments
from serving.gateway.settings import Settings

SETTINGS = Settings(store_url="unused", model="feed", label="champion", category_share=0.5)


def test_what_one_of_two_mixed_feeds_sets_is_not_the_others() -> None:
    variants = {"control": {"share": 0.5, "treatment": {"label": "frozen"}}, "new": {"share": 0.5}}
    mixed = Experiment.read({"name": "m", "variants": variants, "method": "interleaving"})
    other = {"control": {"share": 0.5, "treatment": {"category_share": 0.3}}, "x": {"share": 0.5}}
    beside = Experiment.read({"name": "b", "variants": other, "layer": "other"})
    user = next(f"u{number}" for number in range(100) if beside.split.variant(f"u{number}") == "control")
    for running in ([mixed, beside], [beside, mixed]):
        found = Assignments(running, SETTINGS).of(user)
        assert found.second is not None
        assert (found.treatment.label, found.second.label) == ("frozen", "champion")
        assert {found.treatment.category_share, found.second.category_share} == {0.3}
