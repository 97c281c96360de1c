from __future__ import annotations

from pathlib import Path

from serving.model_server.versions import fingerprint, is_complete, scan


def test_versions_are_folders_named_by_an_int64(tmp_path: Path) -> None:
    for name in ("1", "0042", "9223372036854775807", "9223372036854775808", "-3", "1.5", "v2", "٣", ".7.draft"):
        (tmp_path / name).mkdir()
    (tmp_path / "8").write_text("a file, not a version")
    found = scan(tmp_path)
    assert found is not None
    assert {number: path.name for number, path in found.items()} == {
        1: "1",
        42: "0042",
        2**63 - 1: "9223372036854775807",
    }


def test_an_unreadable_base_path_is_not_an_empty_one(tmp_path: Path) -> None:
    assert scan(tmp_path / "absent") is None
    assert scan(tmp_path) == {}


def test_a_folder_is_complete_once_it_has_a_graph(tmp_path: Path) -> None:
    assert not is_complete(tmp_path)
    (tmp_path / "saved_model.pb").touch()
    assert is_complete(tmp_path)


def test_the_fingerprint_changes_with_any_file(tmp_path: Path) -> None:
    (tmp_path / "variables").mkdir()
    seen = {fingerprint(tmp_path)}
    (tmp_path / "saved_model.pb").write_bytes(b"one")
    seen.add(fingerprint(tmp_path))
    (tmp_path / "variables" / "data").write_bytes(b"two")
    seen.add(fingerprint(tmp_path))
    (tmp_path / "variables" / "data").write_bytes(b"longer")
    seen.add(fingerprint(tmp_path))
    assert len(seen) == 4
