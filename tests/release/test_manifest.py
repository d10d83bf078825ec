"""The rule: a manifest is understood to the last key, or refused with the file, the key and what was expected."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.errors import ReleaseError
from segue.model.ids import ClassName
from segue.release.manifest import Manifest, parse_manifest, read_manifest

GOOD = """\
[release]
system = "blockstore"
version = 2
description = "SHA-256 keys"

[classes.BlockNode]
object = "blockstore.node:BlockNode"

[classes.BlockNode.upgrade]
transform = "blockstore.upgrade:transform"
past = "blockstore.upgrade:Version1"
future = "blockstore.upgrade:Version2"

[classes.BlockNode.upgrade.schedule]
canary = { nodes = 1, soak = "30s" }
max_unavailable = 1
per = "zone"
"""
SCHEDULE = "classes.BlockNode.upgrade.schedule"
LIMITS = 'max_unavailable = 1\nper = "zone"'


def parse(text: str) -> Manifest:
    return parse_manifest(text, source="r/release.toml")


def test_a_manifest_says_what_its_author_wrote() -> None:
    manifest = parse(GOOD)
    assert (manifest.system, manifest.version, manifest.description) == ("blockstore", 2, "SHA-256 keys")
    described = manifest.class_named(ClassName("BlockNode"))
    assert described.object == "blockstore.node:BlockNode"
    assert described.upgrade is not None
    assert described.upgrade.transform == "blockstore.upgrade:transform"
    assert (described.upgrade.past, described.upgrade.future) == (
        "blockstore.upgrade:Version1",
        "blockstore.upgrade:Version2",
    )
    schedule = described.upgrade.schedule
    assert schedule.canary is not None
    assert (schedule.canary.nodes, schedule.canary.soak_s) == (1, 30.0)
    assert schedule.limits == {"zone": 1}


def test_references_are_named_by_their_keys() -> None:
    assert parse(GOOD).references() == {
        "classes.BlockNode.object": "blockstore.node:BlockNode",
        "classes.BlockNode.upgrade.transform": "blockstore.upgrade:transform",
        "classes.BlockNode.upgrade.past": "blockstore.upgrade:Version1",
        "classes.BlockNode.upgrade.future": "blockstore.upgrade:Version2",
    }


@pytest.mark.parametrize(
    ("written", "limits"),
    [
        ("max_unavailable = 3", {"system": 3}),
        ('max_unavailable = 2\nper = "rack"', {"rack": 2}),
        ("max_unavailable = { system = 2, zone = 1 }", {"system": 2, "zone": 1}),
        ("", {"system": 1}),
        ('per = "zone"', {"zone": 1}),
    ],
)
def test_max_unavailable_becomes_limits(written: str, limits: dict[str, int]) -> None:
    upgrade = parse(GOOD.replace(LIMITS, written)).class_named(ClassName("BlockNode")).upgrade
    assert upgrade is not None
    assert upgrade.schedule.limits == limits


def test_a_release_without_a_schedule_upgrades_one_node_at_a_time() -> None:
    upgrade = parse(GOOD[: GOOD.index("[classes.BlockNode.upgrade.schedule]")]).classes["BlockNode"].upgrade
    assert upgrade is not None
    assert upgrade.schedule.limits == {"system": 1}
    assert upgrade.schedule.canary is None


@settings(deadline=None)
@given(st.integers(0, 3660), st.sampled_from([("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86400.0)]))
def test_durations_are_given_out_in_seconds(number: int, unit: tuple[str, float]) -> None:
    upgrade = parse(GOOD.replace("30s", f"{number}{unit[0]}")).classes["BlockNode"].upgrade
    assert upgrade is not None
    assert upgrade.schedule.canary is not None
    assert upgrade.schedule.canary.soak_s == number * unit[1]


@pytest.mark.parametrize("written", [LIMITS, "max_unavailable = { system = 2, zone = 1 }", ""])
def test_a_manifest_survives_json(written: str) -> None:
    manifest = parse(GOOD.replace(LIMITS, written))
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('"30s"', "30", f"{SCHEDULE}.canary.soak: expected a duration such as *, found 30"),
        ('"30s"', '"30"', f"{SCHEDULE}.canary.soak: expected a duration such as *, found '30'"),
        ('"30s"', '"-1s"', f"{SCHEDULE}.canary.soak: expected a duration such as *, found '-1s'"),
        ('"30s"', '"3661d"', f"{SCHEDULE}.canary.soak: expected *at most \"3660d\", found '3661d'"),
        ("nodes = 1", "nodes = 0", f"{SCHEDULE}.canary.nodes: expected a whole number of at least 1, *, found 0"),
        ("nodes = 1, ", "", f"{SCHEDULE}.canary.nodes: expected a whole number of at least 1, *, found nothing"),
        ("version = 2", 'version = "2"', "release.version: expected a whole number of at least 1, *, found '2'"),
        ("version = 2", "version = true", "release.version: expected a whole number *, found True"),
        ("version = 2", "version = 2.0", "release.version: expected a whole number *, found 2.0"),
        ("version = 2", "version = 0", "release.version: expected a whole number *, found 0"),
        ("version = 2", "version = 2147483648", "release.version: expected a whole number *, found 2147483648"),
        ("version = 2", "", "release.version: expected a whole number *, found nothing"),
        ("version = 2", "version = 1", "classes.BlockNode.upgrade: expected no such table in version 1"),
        ('"blockstore"', '"block store"', "release.system: expected a system's name: *, found 'block store'"),
        ('"blockstore"', '"a\\n"', "release.system: expected a system's name: *, found 'a\\n'"),
        ('"blockstore"', "3", "release.system: expected a system's name: *, found 3"),
        ("past", "pasta", "classes.BlockNode.upgrade.pasta: expected no such key; known here are transform, past, "),
        ("[release]", "[releases]", "releases: expected no such key; known here are release, classes"),
        ("object", "objekt", "classes.BlockNode.objekt: expected no such key; known here are object, upgrade"),
        ("description", "descripton", "release.descripton: expected no such key; known here are system, "),
        ("soak", "soaks", f"{SCHEDULE}.canary.soaks: expected no such key; known here are nodes, soak, "),
        ("node:BlockNode", "node", "classes.BlockNode.object: expected MODULE:NAME in this release, *, found 'bl"),
        ("upgrade:transform", "upgrade:a.b", "classes.BlockNode.upgrade.transform: expected MODULE:NAME *"),
        ("upgrade:Version1", "/up:V", "classes.BlockNode.upgrade.past: expected MODULE:NAME *"),
        ("[classes.BlockNode]", '[classes."a b"]', "classes.'a b': expected 1 to 63 letters*, found 'a b'"),
        ("max_unavailable = 1", "max_unavailable = 0", f"{SCHEDULE}.max_unavailable: expected a whole *, found 0"),
        ("max_unavailable = 1", "max_unavailable = true", f"{SCHEDULE}.max_unavailable: expected a *, found True"),
        (LIMITS, "max_unavailable = {}", f"{SCHEDULE}.max_unavailable: expected a whole number *, found {{}}"),
        (LIMITS, "max_unavailable = { zone = 0 }", f"{SCHEDULE}.max_unavailable: expected *, found {{'zone': 0}}"),
        (LIMITS, 'max_unavailable = { "a b" = 1 }', f"{SCHEDULE}.max_unavailable: expected keys that are *"),
        ("= 1\nper", "= { system = 1 }\nper", f"{SCHEDULE}.per: expected no such key beside a table *, found 'zone'"),
        ('"zone"', '"a b"', f"{SCHEDULE}.per: expected a node attribute's name: *, found 'a b'"),
        ('"zone"', "[1]", f"{SCHEDULE}.per: expected a node attribute's name: *, found [1]"),
        ('"zone"', '"system"', f"{SCHEDULE}.per: expected a node attribute's name: *leave per out*, found 'system'"),
    ],
)
def test_a_wrong_key_is_named_with_what_was_expected_and_found(old: str, new: str, complaint: str) -> None:
    assert old in GOOD
    with pytest.raises(ReleaseError) as caught:
        parse(GOOD.replace(old, new))
    message = str(caught.value)
    assert "\n" not in message
    place = re.match(r"r/release\.toml:([0-9]+): ", message)
    assert place
    rest = message[place.end() :]
    for part in complaint.split("*"):
        assert part in rest
        rest = rest[rest.index(part) + len(part) :]


def test_a_later_version_need_not_upgrade_every_class() -> None:
    manifest = parse(GOOD + '[classes.Other]\nobject = "blockstore.other:Other"\n')
    assert manifest.class_named(ClassName("Other")).upgrade is None
    assert Manifest.model_validate_json(manifest.model_dump_json(exclude_none=True)) == manifest


@pytest.mark.parametrize("text", ["", "classes = 3", "release = 3", '[release]\nsystem = "a"\nversion = 1\n[classes]'])
def test_what_is_hardly_a_manifest_gets_one_line(text: str) -> None:
    with pytest.raises(ReleaseError, match=r"^r/release.toml:[0-9]+: .*expected .*") as caught:
        parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "line"), [("[release\n", 1), ("\n\nversion =\n", 3), ('a = """\n\n', 3), ("a = 1\na = 2", 2)]
)
def test_broken_toml_is_named_with_its_line(text: str, line: int) -> None:
    with pytest.raises(ReleaseError, match=rf"^r/release.toml:{line}: expected TOML, found: "):
        parse(text)


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    ),
    st.sampled_from(
        [
            ("release",),
            ("classes",),
            ("classes", "A"),
            ("classes", "A", "object"),
            ("classes", "A", "upgrade"),
            ("classes", "A", "upgrade", "schedule"),
            ("classes", "A", "upgrade", "schedule", "canary"),
            ("classes", "A", "upgrade", "schedule", "canary", "soak"),
            ("classes", "A", "upgrade", "schedule", "max_unavailable"),
            ("classes", "A", "upgrade", "schedule", "per"),
        ]
    ),
)
def test_whatever_stands_at_a_key_is_taken_or_refused_in_one_line(value: object, path: tuple[str, ...]) -> None:
    text = to_toml(value)
    if text is None:
        return
    schedule = {"canary": '{ nodes = 1, soak = "1s" }', "max_unavailable": "1"}
    upgrade = {"transform": '"a:b"', "past": '"a:b"', "future": '"a:b"'}
    lines = ['release = { system = "a", version = 2 }'] if path != ("release",) else []
    for table, keys in ((("classes", "A"), {"object": '"a:b"'}), (("classes", "A", "upgrade"), upgrade)):
        lines += [f"{'.'.join((*table, key))} = {one}" for key, one in keys.items() if not covers(path, (*table, key))]
    whole = ("classes", "A", "upgrade", "schedule")
    for key, one in schedule.items():
        if not covers(path, (*whole, key)) and not covers((*whole, key), path):
            lines.append(f"{'.'.join((*whole, key))} = {one}")
    assert len(complaint_about("\n".join([*lines, f"{'.'.join(path)} = {text}"])).splitlines()) <= 1


def complaint_about(text: str) -> str:
    try:
        parse(text)
    except ReleaseError as error:
        return str(error)
    return ""


def covers(path: tuple[str, ...], other: tuple[str, ...]) -> bool:
    return other[: len(path)] == path


def to_toml(value: object) -> str | None:
    """Return it as TOML writes it; None if TOML cannot."""
    match value:
        case None:
            return None
        case bool():
            return str(value).lower()
        case int():
            return str(value)
        case str():
            return '"' + "".join(f"\\U{ord(char):08x}" for char in value) + '"'
        case list():
            parts = [to_toml(one) for one in value]
            return None if None in parts else f"[{', '.join(map(str, parts))}]"
        case dict():
            pairs = [(to_toml(key), to_toml(one)) for key, one in value.items()]
            return None if any(one is None for _, one in pairs) else f"{{{', '.join(f'{k} = {v}' for k, v in pairs)}}}"
    raise AssertionError(value)


def test_a_folder_without_a_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=r"release.toml: there is no such file"):
        read_manifest(tmp_path)
    with pytest.raises(ReleaseError, match=r"release.toml: there is no such file"):
        read_manifest(tmp_path / "nope")


def test_a_manifest_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "release.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ReleaseError, match=r"release.toml: cannot be read as UTF-8"):
        read_manifest(tmp_path)


def test_a_class_that_the_release_has_not_is_named_with_those_it_has() -> None:
    with pytest.raises(ReleaseError, match=r"release 2 of blockstore has no class 'Edge'; it has BlockNode"):
        parse(GOOD).class_named(ClassName("Edge"))
