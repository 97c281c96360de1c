from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import languages
from benchmarks.languages import LANGUAGES, NGRAMS, compact, named, read, run
from pipelines.artefacts import read_json
from pipelines.presets import MINILM

MEASURED = Path(languages.__file__).parents[1] / "docs" / "measured.md"


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Languages that say the same in words of their own, but for a number; two topics."""
    monkeypatch.setenv("BELFRY_DATA", str(tmp_path))
    monkeypatch.delenv("BELFRY_PRESETS", raising=False)
    for place, language in enumerate(LANGUAGES):
        folder = tmp_path / "sib200" / language
        folder.mkdir(parents=True)
        for part, numbers in (("train", range(30)), ("dev", range(30, 36)), ("test", range(36, 48))):
            topics = [("food", "bread"), ("sport", "goal")]
            facts = [(number, *topics[number % 2]) for number in numbers]
            rows = [f"{number}\t{topic}\t{chr(97 + place) * 3} {word} {number}" for number, topic, word in facts]
            rows = rows if place % 2 else rows[::-1]  # the order of a file says nothing
            (folder / f"{part}.tsv").write_text("index_id\tcategory\ttext\n" + "\n".join(rows) + "\n")
    return tmp_path / "sib200"


def test_a_preset_is_judged_in_every_language(data: Path, tiny_preset: str, tmp_path: Path) -> None:
    assert run({"tiny": tiny_preset}, results=tmp_path / "results") == 0
    found = read_json(tmp_path / "results" / "languages.json")["presets"]
    assert list(found) == [NGRAMS, "tiny"]
    german = found[NGRAMS]["languages"]["deu_Latn"]
    assert german["from_english"]["mean"] > 0.9
    assert german["topic_from_english"]["mean"] == german["topic"]["mean"] == 1
    assert german["topic"]["count"] == 12
    assert found["tiny"]["chance"] == {"retrieval": 1 / 48, "topic": 0.5}
    assert found["tiny"]["languages"]["eng_Latn"]["tokens_to_english"] == 1
    # The tiny vocabulary has no digits.
    assert 0.1 < found["tiny"]["languages"]["eng_Latn"]["unknown"] < 0.5
    assert "| tiny | tokens that are unknown |" in (tmp_path / "results" / "languages.md").read_text()


def test_a_preset_that_cannot_be_loaded_is_left_out_and_told(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run({"other": str(tmp_path / "nowhere")}, results=tmp_path / "results") == 1
    assert "other is left out: the preset folder" in capsys.readouterr().out
    assert list(read_json(tmp_path / "results" / "languages.json")["presets"]) == [NGRAMS]


def test_data_that_is_not_there_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BELFRY_DATA", str(tmp_path))
    assert run(results=tmp_path / "results") == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert "holds sib200" in line
    assert not (tmp_path / "results").exists()


def test_languages_with_other_sentences_are_refused(data: Path) -> None:
    path = data / "fra_Latn" / "dev.tsv"
    path.write_text(path.read_text().replace("food", "sport", 1))
    with pytest.raises(ValueError, match="do not hold the same sentences"):
        read(data)


def test_equal_vectors_share_a_hit() -> None:
    same = np.ones((4, 2), np.float32)
    assert languages._found(same, same).tolist() == [0.25] * 4
    apart = np.eye(4, dtype=np.float32)
    assert languages._found(apart, apart).tolist() == [1] * 4
    assert languages._found(apart, apart[::-1]).tolist() == [0] * 4


def test_presets_are_named_by_hand_or_by_their_last_part() -> None:
    assert named(["mbert=/a/b", "/c/xlm-r/", MINILM]) == {"mbert": "/a/b", "xlm-r": "/c/xlm-r/", MINILM: MINILM}


def test_the_document_quotes_the_table_that_is_in_the_repository() -> None:
    table = "\n".join(compact(read_json(languages.RESULTS / "languages.json")["presets"]))
    assert table in MEASURED.read_text(encoding="utf-8")
