"""Who takes part in which task, and the settings that are tried."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.quality.ours import recipe
from benchmarks.quality.peers import content, factorisation, linear, neural_news, recent, simple
from benchmarks.quality.protocol import Method

_LENGTHS = (10, 20, 50, 1000)
_DECAYS = (0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
_RIDGES = (50.0, 100.0, 200.0, 400.0, 800.0, 1600.0)


POPULARITY = Method("popularity", simple.fit_popularity)
NEWEST = Method("newest", simple.fit_newest)
CATEGORY = Method("category match", simple.fit_category, {"decay": (1.0, 0.9, 0.8)})
TFIDF = Method("TF-IDF", simple.fit_tfidf, {"length": _LENGTHS})
MINILM = Method("frozen MiniLM", simple.fit_minilm, {"length": _LENGTHS, "decay": (1.0, 0.95, 0.9)})
_KNN = {"neighbours": (50, 200, 2000), "activity": (0.0, 0.5, 1.0), "popularity": (0.5, 0.4)}
ITEM_KNN = Method("itemKNN", linear.fit_item_knn, _KNN)
RECENT_KNN = Method("itemKNN, recent events first", linear.fit_item_knn, {**_KNN, "decay": _DECAYS})
EASE = Method("EASE", linear.fit_ease, {"regularisation": _RIDGES})
RECENT_EASE = Method("EASE, recent events first", linear.fit_ease, {"regularisation": _RIDGES, "decay": _DECAYS})
EASE_MINILM = Method(
    "EASE + MiniLM",
    linear.fit_ease_minilm,
    {
        "regularisation": (200.0, 400.0, 800.0),
        "share": (0.02, 0.05, 0.1, 0.2, 0.4, 0.6),
        "length": (20, 1000),
        "decay": (1.0, 0.9, 0.8, 0.7),
    },
)
ALS = Method(
    "ALS (implicit)",
    factorisation.fit_als,
    {"factors": (32, 64, 128), "regularisation": (0.1, 10.0, 50.0), "alpha": (1.0, 5.0)},
)
BPR = Method(
    "BPR (implicit)",
    factorisation.fit_implicit_bpr,
    {"factors": (64, 128), "learning_rate": (0.01, 0.05), "regularisation": (0.002, 0.02), "iterations": (100, 300)},
)
CORNAC_BPR = Method(
    "BPR (cornac)",
    factorisation.fit_cornac_bpr,
    {"factors": (50, 200), "learning_rate": (0.01, 0.05), "regularisation": (0.001, 0.01), "iterations": (100, 200)},
)
BIVAE = Method("BiVAE (cornac)", factorisation.fit_bivae, {"factors": (50, 100), "encoder": (100,), "epochs": (500,)})
MINILM_ALS = Method(
    "MiniLM mapped to ALS factors",
    factorisation.fit_minilm_to_als,
    {"factors": (64, 128, 256), "regularisation": (1.0, 10.0), "alpha": (1.0, 5.0), "ridge": (3.0, 10.0, 30.0, 100.0)},
)
LOGISTIC = Method(
    "logistic regression on content",
    content.fit_logistic,
    {"strength": (0.001, 0.01, 0.1, 1.0), "rates": (False, True)},
)
LIGHTGBM = Method(
    "LightGBM on content",
    content.fit_lightgbm,
    {"leaves": (4, 8, 15), "smallest": (50, 200), "trees": (30, 80, 200), "rates": (False, True)},
)

_FACTORISATION = (ALS, BPR, CORNAC_BPR, BIVAE)

METHODS: dict[str, Sequence[Method]] = {
    "mind": (
        recipe("news"),
        POPULARITY,
        Method("newest", simple.fit_newest, {"unseen_first": (False, True)}),
        Method(
            "category match",
            simple.fit_category,
            {"decay": (1.0, 0.95, 0.9, 0.8), "by": ("category", "subcategory")},
        ),
        TFIDF,
        MINILM,
        LOGISTIC,
        LIGHTGBM,
        Method("itemKNN", linear.fit_item_knn, {"neighbours": (200,), "activity": (0.0, 0.5)}),
        Method("NRMS", neural_news.fit_nrms),
        Method("LSTUR", neural_news.fit_lstur),
    ),
    "ml100k-random": (
        recipe("sets"),
        recipe("catalogue"),
        recipe("ids"),
        POPULARITY,
        NEWEST,
        CATEGORY,
        TFIDF,
        MINILM,
        ITEM_KNN,
        RECENT_KNN,
        EASE,
        RECENT_EASE,
        EASE_MINILM,
        *_FACTORISATION,
    ),
    "ml100k-last": (
        recipe("catalogue"),
        recipe("ids"),
        POPULARITY,
        NEWEST,
        CATEGORY,
        TFIDF,
        MINILM,
        ITEM_KNN,
        RECENT_KNN,
        EASE,
        RECENT_EASE,
        EASE_MINILM,
        *_FACTORISATION,
    ),
    "ibm": (
        recipe("sets"),
        recipe("catalogue"),
        recipe("ids"),
        POPULARITY,
        TFIDF,
        MINILM,
        ITEM_KNN,
        RECENT_KNN,
        EASE,
        EASE_MINILM,
        *_FACTORISATION,
    ),
    "ibm-new": (recipe("catalogue"), recipe("sets"), TFIDF, MINILM, MINILM_ALS),
    "globo": (
        recipe("ids", data="before", label="(1 epoch, 2 events a user)", epochs=1, max_examples_per_user=2),
        POPULARITY,
        Method("popularity of the last hours of training", simple.fit_recent_popularity, {"hours": (0.5, 1, 2, 6, 24)}),
        Method(
            "popularity of the hours before the query",
            recent.fit_sliding_popularity,
            {"hours": (0.05, 0.1, 0.25, 0.5, 1, 2)},
        ),
        NEWEST,
        Method("itemKNN", linear.fit_item_knn, {"neighbours": (100, 400)}),
        Method("itemKNN, recent events first", linear.fit_item_knn, {"neighbours": (100, 400), "decay": (0.5, 0.8)}),
    ),
}
