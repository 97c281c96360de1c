"""What a device needs to know of a model that is not in its graph; an export keeps it beside the graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from pipelines.artefacts import read_json
from pipelines.errors import BadInput
from pipelines.export_gate import EXTRA
from pipelines.run import Run
from pipelines.vocabulary import TAGS, Vocabulary

EDGE = "edge.json"
FORMAT = 1


class WordPiece(BaseModel):
    """How texts become tokens; `vocabulary` is in order of id."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["wordpiece"] = "wordpiece"
    lowercase: bool
    strip_accents: bool
    special: dict[str, str]
    vocabulary: list[str]


class Ranking(BaseModel):
    """The second stage."""

    model_config = ConfigDict(extra="forbid")

    retrieve: int
    tasks: list[str]
    features: list[str]


class EdgeFacts(BaseModel):
    """Sizes, strings and tokeniser; or why the model cannot be quantised."""

    model_config = ConfigDict(extra="forbid")

    format: Literal[1] = 1
    refused: str | None
    history: int
    width: int
    top_k: int
    tags_kept: int
    fields: Literal["joined", "title", "separate"]
    tokens: int | None
    text: WordPiece | None
    ranking: Ranking | None
    vocabulary: Vocabulary

    @classmethod
    def read(cls, version: Path) -> EdgeFacts:
        """Of an exported version.

        Raises:
            BadInput: It was exported before versions had them, or cannot be quantised; the sentence says why.
        """
        path = version / EXTRA / EDGE
        if not (version / "saved_model.pb").exists():
            raise BadInput(f"{version} is not an exported version: name one such as models/news/1.")
        if not path.exists():
            raise BadInput(f"{version} was exported without what a conversion needs: export its run again.")
        try:
            facts = cls.model_validate(read_json(path))
        except ValueError as error:
            raise BadInput(f"{path} cannot be read ({str(error).splitlines()[0]}): export the run again.") from None
        if facts.refused:
            raise BadInput(f"{version} cannot be quantised: {facts.refused}.")
        return facts


def add_edge(run: Run, module: Any) -> EdgeFacts:
    """Give a `towers.recommender.Recommender` its functions for conversion, if it can have them, and say what they
    need to be told."""
    from towers.ranking_features import FEATURES

    features, model, ranker = run.recipe.features, module.towers, module.ranker
    text, refused = None, None
    if model.text is not None:
        text = _wordpiece(model.text)
        if text is None:
            kind = type(model.text.preprocessor.tokenizer).__name__
            refused = f"its text encoder's tokeniser ({kind}) is no WordPiece as BERT has it, and devices have no other"
    if model.image is not None:
        refused = "its content tower takes images, and devices have no image encoder"
    if refused is None:
        module.add_edge_functions()
    ranking = None
    if ranker is not None:
        names = [FEATURES[place] for place in ranker.tower.chosen]
        ranking = Ranking(retrieve=module.retrieved, tasks=list(ranker.tasks), features=names)
    return EdgeFacts(
        refused=refused,
        history=features.history,
        width=model.content.width,
        top_k=module.top_k,
        tags_kept=TAGS,
        fields="joined" if features.text is None else features.text.fields,
        tokens=None if model.text is None else model.text.max_tokens,
        text=text,
        ranking=ranking,
        vocabulary=run.vocabulary,
    )


def _wordpiece(encoder: Any) -> WordPiece | None:
    from towers.runtime import keras_hub

    tokenizer = encoder.preprocessor.tokenizer
    usual = {"split": True, "split_on_cjk": True, "suffix_indicator": "##", "special_tokens_in_strings": False}
    is_word_piece = isinstance(tokenizer, keras_hub.tokenizers.WordPieceTokenizer)
    if not is_word_piece or any(getattr(tokenizer, name) != value for name, value in usual.items()):
        return None
    special = {
        "pad": tokenizer.pad_token,
        "unknown": tokenizer.oov_token,
        "start": tokenizer.cls_token,
        "end": tokenizer.sep_token,
    }
    return WordPiece(
        lowercase=bool(tokenizer.lowercase),
        strip_accents=bool(tokenizer.strip_accents),
        special=special,
        vocabulary=list(tokenizer.get_vocabulary()),
    )
