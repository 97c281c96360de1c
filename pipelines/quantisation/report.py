"""What each variant is worth, as text and as a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines.page import badge, bars, element, figure, page, section, table

_MIB = 2**20
_HEADERS = ("variant", "MiB", "ms a user", "ms an item", "ms a ranking", "cosine user", "cosine item")


def _cells(name: str, about: Mapping[str, Any]) -> list[str]:
    """Of a variant, as far as it was measured."""
    parts = about.get("parts", {})

    def of(part: str, key: str, form: str) -> str:
        return form.format(parts[part][key]) if part in parts else "-"

    size = about.get("bytes") or sum(part["bytes"] for part in parts.values())
    return [
        name,
        f"{size / _MIB:.1f}" if size else "-",
        of("user", "milliseconds", "{:.2f}"),
        of("content", "milliseconds", "{:.2f}"),
        of("ranker", "milliseconds", "{:.2f}"),
        of("user", "cosine", "{:.4f}"),
        of("content", "cosine", "{:.4f}"),
    ]


def _kept(about: Mapping[str, Any]) -> list[str]:
    if "kept" not in about:
        return ["-"] * 4
    kept, change = about["kept"], about["kept"]["ndcg@10_change"]
    return [
        *(f"{kept[name]['mean']:.2%}" for name in ("recall@10", "recall@50")),
        f"{change['mean']:+.4f} [{change['low']:+.4f}, {change['high']:+.4f}]",
        f"{about['new_items']['recall@10']:.2%}",
    ]


_KEPT = ("recall@10 kept", "recall@50 kept", "nDCG@10 change", "new items' recall@10 kept")


def _lead(result: Mapping[str, Any]) -> str:
    part = "" if result["part"] == "all" else f" of the {result['part']} part"
    return (
        f"{result['model']}, version {result['version']}, on {result['histories']:,} real histories{part} of "
        f"{result['dataset']}; at least {result['keep']:.1%} of recall@10 must be kept, and "
        f"{result['keep_new']:.1%} among {result['items']:,} items that the converted content tower embeds"
    )


def table_lines(result: Mapping[str, Any]) -> list[str]:
    """The report as aligned plain text."""
    rows = [[*_HEADERS, *_KEPT]]
    rows += [[*_cells(name, about), *_kept(about)] for name, about in result["variants"].items()]
    wide = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [_lead(result), ""]
    for row in rows:
        first, *others = (cell.ljust(wide[0]) if not at else cell.rjust(wide[at]) for at, cell in enumerate(row))
        lines.append("  " + "  ".join([first, *others]))
    lines.append("")
    for name, about in [*result["variants"].items(), *_onnx(result)]:
        lines += [f"{name} is refused: {about['refused']}"] if about["refused"] else []
        if name == "onnx" and not about["refused"]:
            parts = ", ".join(
                f"{part} {each['bytes'] / _MIB:.1f} MiB, {each['milliseconds']:.2f} ms"
                for part, each in about["parts"].items()
            )
            lines.append(f"ONNX in float32: {parts}")
    return lines


def table_rows(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each variant: its size, times a call, what it keeps of recall and nDCG, and why it is refused."""
    rows = []
    for name, about in result["variants"].items():
        parts, kept = about.get("parts", {}), about.get("kept", {})
        row: dict[str, Any] = {"variant": name, "refused": about["refused"], "bytes": about.get("bytes")}
        row |= {f"milliseconds_{part}": each["milliseconds"] for part, each in parts.items()}
        row |= {f"{metric}_{key}": each[key] for metric, each in kept.items() for key in ("mean", "low", "high")}
        rows.append(row | {"new_items_recall@10": about.get("new_items", {}).get("recall@10")})
    return rows


def _onnx(result: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [("onnx", result["onnx"])] if "onnx" in result else []


def quantise_page(result: Mapping[str, Any]) -> str:
    """One HTML document, complete in itself."""
    variants = result["variants"]
    judged = [
        [name, badge("refused", "error") if about["refused"] else badge("kept", "good"), *_kept(about)]
        for name, about in variants.items()
    ]
    everything = [*variants.items(), *_onnx(result)]
    refused = [element("li", f"{name}: {about['refused']}") for name, about in everything if about["refused"]]
    measured = {name: about for name, about in variants.items() if "kept" in about}
    charts = []
    if measured:
        sizes = [sum(part["bytes"] for part in about["parts"].values()) / _MIB for about in measured.values()]
        kept = {
            "recommendations": [about["kept"]["recall@10"]["mean"] for about in measured.values()],
            "new items": [about["new_items"]["recall@10"] for about in measured.values()],
        }
        names = list(measured)
        charts = [
            figure("Size of the parts, MiB", bars("Size of the parts, MiB", names, {"MiB": sizes})),
            figure("recall@10 kept", bars("recall@10 kept", names, kept, format_=lambda value: f"{value:.1%}")),
        ]
    parts = [
        [
            name,
            part,
            each["precision"],
            round(each["bytes"] / _MIB, 2),
            round(each["milliseconds"], 3),
            round(each["cosine"], 5),
            round(each["smallest_cosine"], 5),
            f"{each['largest_difference']:.1e}",
        ]
        for name, about in everything
        for part, each in about.get("parts", {}).items()
    ]
    headers = ["variant", "part", "precision", "MiB", "ms", "cosine", "smallest cosine", "largest difference"]
    note = element(
        "p",
        "Recommendations are compared with the float model's over what was on offer at that moment, the whole way: "
        "converted query tower, items in int8, converted ranker. New items are those that a device embeds itself. "
        "Times are the median of single calls on one thread.",
        class_="note",
    )
    return page(
        f"{result['model']} {result['version']} for devices",
        _lead(result) + ".",
        [
            section(
                "Variants",
                element("div", *charts, class_="charts"),
                table(["variant", "verdict", *_KEPT], judged, wide=True),
                *([element("ul", *refused)] if refused else []),
                note,
            ),
            section("Parts", table(headers, parts, wide=True)),
        ],
    )
