"""`rdae evaluate`: BD rates and GMSD in closed form, files on disk as measured, runs that go on, a page by itself."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from conftest import photograph
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.interpolate import PchipInterpolator
from scipy.signal import convolve2d

from rdae.coding.fidelity import gmsd, ms_ssim, psnr, psnr_luma_chroma
from rdae.coding.model import shipped_models
from rdae.coding.peers import PEERS, Avif, Jpeg, Jpeg2000, WebP, peers_named, rgb_image
from rdae.errors import DataError, ShapeError
from rdae.measures.bd_rate import BdRate, MonotoneCubic, RateCurve, bd_rate
from rdae.reports.crops import busiest
from rdae.reports.evaluation import as_quality, evaluate
from rdae.reports.evaluation_summary import BdLine, facts, notes, plain_text, published, summary
from rdae.reports.measured_files import ROWS, pictures_in
from rdae.reports.peak_memory import decoding_memory, encoding_memory

ROOT = Path(__file__).parent.parent
CAN_RUN = [peer for peer in dict.fromkeys(peer for peers in PEERS.values() for peer in peers) if not peer.missing()]


# --- BD rate -------------------------------------------------------------------------------------------------------


def curve(seed: int, points: int = 9) -> RateCurve:
    rng = np.random.default_rng(seed)
    return RateCurve(
        np.cumsum(rng.uniform(0.02, 0.3, points)) + 0.05, 26 + np.cumsum(rng.uniform(0.3, 2, points))
    )  # fmt: skip


@given(seed=st.integers(0, 500), factor=st.floats(0.2, 5.0))
def test_a_curve_of_so_many_times_the_rate_differs_by_just_that(seed, factor):
    anchor = curve(seed)
    found = bd_rate(RateCurve(factor * anchor.rates, anchor.qualities), anchor)
    assert found.percent == pytest.approx(100 * (factor - 1), abs=1e-9 * factor * 100)
    assert (found.low, found.high) == (anchor.qualities[0], anchor.qualities[-1])


@given(seed=st.integers(0, 500))
def test_a_curve_is_no_better_than_itself_and_the_way_back_is_the_inverse(seed):
    one, other = curve(seed), curve(seed + 1000)
    assert bd_rate(one, one).percent == pytest.approx(0, abs=1e-10)
    there, back = bd_rate(one, other), bd_rate(other, one)
    assert (1 + there.percent / 100) * (1 + back.percent / 100) == pytest.approx(1, rel=1e-12)
    assert there[1:] == back[1:]


def test_straight_lines_in_ln_rate_have_a_closed_form():
    """ln rate = a + b q against c + d q between q = 30 and 34: the mean difference is that in the middle, q = 32."""
    q, p = np.array([28.0, 31, 34]), np.array([30.0, 33, 36])
    found = bd_rate(RateCurve(np.exp(-9 + 0.3 * q), q), RateCurve(np.exp(-7 + 0.25 * p), p))
    assert found.percent == pytest.approx(100 * math.expm1(-9 + 7 + 0.05 * 32), rel=1e-12)
    assert (found.low, found.high) == (30, 34)


@given(seed=st.integers(0, 1000), points=st.integers(2, 9))
def test_the_cubic_is_that_of_scipy(seed, points):
    """Values and integrals, of data that turn and stand still."""
    rng = np.random.default_rng(seed)
    x = np.cumsum(rng.uniform(0.1, 1, points))
    y = rng.integers(-2, 3, points).astype(float)
    mine, theirs = MonotoneCubic(x, y), PchipInterpolator(x, y, extrapolate=False)
    at = rng.uniform(x[0] - 0.2, x[-1] + 0.2, 50)
    np.testing.assert_allclose(mine(at), theirs(at), rtol=0, atol=1e-12)
    low, high = np.sort(rng.uniform(x[0], x[-1], 2))
    assert mine.integral(low, high) == pytest.approx(float(theirs.integrate(low, high)), abs=1e-12)


def test_a_range_of_rates_means_the_qualities_of_the_anchor_there():
    one, anchor = curve(1), curve(2)
    found = bd_rate(one, anchor, (0.3, 0.6))
    assert (found.low, found.high) == pytest.approx(tuple(anchor.quality_at([0.3, 0.6])))
    wide = bd_rate(one, anchor, (1e-9, 1e9))
    assert wide == bd_rate(one, anchor)


def test_curves_without_a_quality_in_common_have_no_bd_rate():
    low, high = curve(1), curve(2)
    assert bd_rate(low, RateCurve(high.rates, high.qualities + 100)) is None
    assert bd_rate(low, RateCurve(high.rates[:1], high.qualities[:1])) is None
    assert bd_rate(low, high, (1e3, 1e4)) is None


def test_points_that_a_smaller_file_surpasses_are_left_out():
    found = RateCurve.of([0.5, 0.1, 0.3, 0.3, 0.9], [33, 30, 32, 31, 33])
    assert found.rates.tolist() == [0.1, 0.3, 0.5]
    assert found.qualities.tolist() == [30, 32, 33]
    with pytest.raises(ShapeError, match="Sort them"):
        MonotoneCubic([0.2, 0.1], [1, 2])


def test_the_published_figure_of_kodak_comes_out_again():
    """It was made with SciPy and the trapezoidal rule on 500 steps."""
    result = json.loads((ROOT / "docs" / "results" / "kodak.json").read_text(encoding="utf-8"))
    ours, anchor = (
        RateCurve.of([p["bpp"] for p in result["curves"][name]], [p["psnr_db"] for p in result["curves"][name]])
        for name in ("rdae photo", "JPEG 2000 (Pillow, 9/7)")
    )
    assert bd_rate(ours, anchor, (0.1, 1.0)).percent == pytest.approx(
        result["bd_rate_against_jpeg2000_percent"], abs=0.011
    )


# --- GMSD ----------------------------------------------------------------------------------------------------------


def authors_gmsd(a: np.ndarray, b: np.ndarray) -> float:
    """The MATLAB code of Xue et al., line by line, on luma that is not rounded."""
    grey = [z.astype(np.float64) @ [0.299, 0.587, 0.114] for z in (a, b)]
    prewitt = np.array([[1, 0, -1], [1, 0, -1], [1, 0, -1]]) / 3
    magnitudes = []
    for z in grey:
        full = convolve2d(z, np.full((2, 2), 0.25))
        z = full[1:, 1:][::2, ::2]  # conv2(..., 'same') starts at the second row and column for a kernel of two
        magnitudes.append(np.hypot(convolve2d(z, prewitt, "same"), convolve2d(z, prewitt.T, "same")))
    one, two = magnitudes
    quality = (2 * one * two + 170) / (one**2 + two**2 + 170)
    return float(quality.std(ddof=1))


@pytest.mark.parametrize("size", [(40, 56), (41, 57), (3, 3)])
def test_gmsd_is_that_of_its_authors_code(size):
    a, b = photograph(*size, 1), photograph(*size, 2)
    assert gmsd(a, b) == pytest.approx(authors_gmsd(a, b), abs=1e-12)
    assert gmsd(a, b) == gmsd(b, a) > 0
    assert gmsd(a, a) == 0


def test_gmsd_of_single_dots_in_closed_form():
    """A dot of one pixel, after halving: four neighbours with a gradient of 1/3 its height, four with sqrt(2)/3."""
    size, bright, dim = 20, 240, 90
    a, b = np.zeros((2, size, size, 3), dtype=np.uint8)
    a[8:10, 8:10], b[8:10, 8:10] = bright, dim

    def similarity(share: float) -> float:
        one, two = share * bright / 3, share * dim / 3
        return (2 * one * two + 170) / (one**2 + two**2 + 170)

    values = [1.0] * ((size // 2) ** 2 - 8) + 4 * [similarity(1)] + 4 * [similarity(math.sqrt(2))]
    assert gmsd(a, b) == pytest.approx(np.std(values, ddof=1), abs=1e-12)
    deep = (a.astype(np.uint16) * 257, b.astype(np.uint16) * 257)
    assert gmsd(*deep) == pytest.approx(gmsd(a, b), abs=1e-12)
    assert gmsd(a[..., 0], b[..., 0]) == pytest.approx(gmsd(a, b), abs=1e-12)


def test_gmsd_refuses_what_has_no_gradient():
    with pytest.raises(ShapeError, match="at least 3"):
        gmsd(np.zeros((2, 9), np.uint8), np.zeros((2, 9), np.uint8))


# --- codecs by other hands -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("peer", CAN_RUN, ids=lambda peer: peer.name)
def test_settings_go_from_small_files_to_large_ones(peer):
    settings = peer.settings(8)
    assert len(settings) == 8
    assert all(a < b for a, b in pairwise(settings))
    image = Image.fromarray(photograph(96, 112, 3))
    files = [peer.encode(image, setting) for setting in (settings[0], settings[3], settings[-1])]
    assert len(files[0]) < len(files[1]) < len(files[2])
    shown = [peer.decode(data) for data in files]
    errors = [psnr(np.asarray(image), pixels) for pixels in shown]
    assert errors[0] < errors[1] < errors[2]
    assert peer.conditions()


@pytest.mark.parametrize("peer", CAN_RUN, ids=lambda peer: peer.name)
def test_a_wished_size_is_kept(peer):
    image = Image.fromarray(photograph(96, 112, 3))
    low, high = (peer.settings(8)[k] for k in (0, -1))
    size = (len(peer.encode(image, low)) + len(peer.encode(image, high))) // 2
    assert 0.75 * size < len(peer.of_size(image, size)) <= size
    if not isinstance(peer, Jpeg2000):
        assert peer.of_size(image, size, (low, high)) == peer.of_size(image, size)


@pytest.mark.skipif(bool(Avif().missing()), reason="this Pillow writes no AVIF")
def test_avif_keeps_more_chroma_in_444():
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8))
    image = coarse.resize((72, 72), Image.Resampling.NEAREST)
    chroma = [
        psnr_luma_chroma(np.asarray(image), codec.decode(codec.encode(image, 90)))[1]
        for codec in (Avif("4:2:0", speed=9), Avif("4:4:4", speed=9))
    ]
    assert chroma[1] > chroma[0] + 3


@pytest.mark.parametrize("peer", CAN_RUN, ids=lambda peer: peer.name)
def test_a_process_that_asks_for_nothing_before_can_code(peer, tmp_path):
    """As the processes of a run do: a plugin of Pillow's is not there until it is imported."""
    Image.fromarray(photograph(48, 64, 1)).save(tmp_path / "x.png")
    setting = peer.settings(2)[0]
    made = encoding_memory(peer, tmp_path / "x.png", setting)
    file = tmp_path / f"x{peer.suffix}"
    file.write_bytes(peer.encode(rgb_image(tmp_path / "x.png"), setting))
    read = decoding_memory(peer, file)
    if sys.platform == "linux":
        assert min(made.before, read.before) > 0


def test_avif_is_both_and_an_unknown_codec_is_refused():
    assert [peer.name for peer in peers_named("avif, jpeg ,avif-444")] == ["avif-420", "avif-444", "jpeg"]
    assert "speed 4" in peers_named("avif")[0].label
    with pytest.raises(DataError, match="Choose from jpeg, jpeg2000"):
        peers_named("jpg")


def test_every_codec_sees_8_bit_rgb(tmp_path):
    deep = np.arange(40 * 30, dtype=np.uint16).reshape(40, 30) * 50
    Image.fromarray(deep).save(tmp_path / "deep.png")
    expected = np.repeat(np.round(deep / 257)[..., None], 3, 2)
    assert np.array_equal(np.asarray(rgb_image(tmp_path / "deep.png")), expected)
    clear = Image.fromarray(photograph(20, 30, 1)).convert("RGBA")
    clear.putalpha(9)
    clear.save(tmp_path / "clear.png")
    assert np.array_equal(np.asarray(rgb_image(tmp_path / "clear.png")), np.asarray(clear)[..., :3])


# --- a run ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "in" / "more").mkdir(parents=True)
    for k, name in enumerate(("a.png", "b.png", "more/a.png")):
        height, width = (180, 176) if k else (40, 60)  # the first is too small for MS-SSIM
        Image.fromarray(photograph(height, width, k)).save(tmp_path / "in" / name)
    return tmp_path


def run(folder: Path, **options):
    pictures = pictures_in(folder / "in", folder / "out")
    return evaluate([Jpeg()], [WebP()], pictures, folder / "out", count=3, **options)


@pytest.fixture
def no_memory(monkeypatch):
    """Without the processes in which memory is measured."""
    for name in ("encoding_memory", "decoding_memory"):
        monkeypatch.setattr(f"rdae.reports.evaluation.{name}", lambda *_: None)


def test_rows_say_what_is_on_disk(folder, no_memory):
    found = run(folder)
    assert [p.name for p in found.pictures] == ["a", "b", "more/a"]
    assert len(found.rows) == 2 * 3 * 3
    for row in [*found.rows, *found.equal]:
        path = folder / "out" / row.file
        original, shown = (
            np.asarray(Image.open(p).convert("RGB")) for p in (folder / "in" / f"{row.picture}.png", path)
        )
        assert row.bytes == path.stat().st_size
        assert row.bpp == 8 * row.bytes / (original.shape[0] * original.shape[1])
        assert row.psnr == psnr(original, shown)
        assert (row.psnr_luma, row.psnr_chroma) == psnr_luma_chroma(original, shown)
        assert row.gmsd == gmsd(original, shown)
        assert row.ms_ssim == (None if row.picture == "a" else ms_ssim(original, shown))
    assert len({row.file for row in found.rows}) == len(found.rows)
    (first, *_), own = found.means("jpeg"), [row for row in found.of("jpeg") if row.setting == Jpeg().settings(3)[0]]
    assert first["psnr"] == pytest.approx(np.mean([row.psnr for row in own]))
    assert first["ms_ssim"] is None


def test_crops_have_equal_bytes_and_pictures_that_differ(folder, no_memory):
    found = run(folder)
    assert {row.picture for row in found.equal} == {"a", "b", "more/a"}
    for picture in ("a", "b", "more/a"):
        jpeg, webp = (row for row in found.equal if row.picture == picture)
        assert jpeg.wished == webp.wished
        assert max(jpeg.bytes, webp.bytes) <= jpeg.wished
        assert min(jpeg.bytes, webp.bytes) > 0.8 * jpeg.wished


def test_a_second_run_does_only_what_is_left(folder, no_memory, monkeypatch):
    whole = run(folder)
    assert whole.fresh == len(whole.rows) + len(whole.equal)
    journal = folder / "out" / ROWS
    lines = journal.read_text("utf-8").splitlines()

    with monkeypatch.context() as patch:
        patch.setattr(Jpeg, "encode", lambda *_: pytest.fail("coded again"))
        patch.setattr(WebP, "encode", lambda *_: pytest.fail("coded again"))
        again = run(folder)
    assert again.fresh == 0
    assert (again.rows, again.equal) == (whole.rows, whole.equal)

    journal.write_text("\n".join([*lines[:5], lines[5][:40]]), "utf-8")  # killed while it wrote the sixth
    (folder / "out" / whole.rows[0].file).unlink()
    counts: list[tuple[str, int, int]] = []
    third = run(folder, progress=lambda *count: counts.append(count))
    assert counts[0] == ("files", 4, len(whole.rows))
    assert counts[-1][1] == counts[-1][2]
    assert third.fresh == whole.fresh - 4
    assert [(row.file, row.bytes) for row in third.rows] == [(row.file, row.bytes) for row in whole.rows]

    Image.fromarray(photograph(180, 176, 9)).save(folder / "in" / "b.png")  # another picture of the same name
    fourth = run(folder)
    assert fourth.fresh == 2 * 3 + 2
    monkeypatch.setattr(WebP, "conditions", lambda self: "a newer version")
    assert run(folder).fresh == 3 * 3 + 3


def test_several_processes_make_the_same_files(folder, no_memory):
    alone = run(folder)
    shutil.rmtree(folder / "out")
    together = run(folder, jobs=2)
    assert [(row.file, row.bytes, row.psnr) for row in together.rows] == [
        (row.file, row.bytes, row.psnr) for row in alone.rows
    ]
    assert alone.comparable_times
    assert not together.comparable_times
    assert any("do not compare the times" in line for line in notes(summary(together, [], (0.1, 1.0))))


def test_the_files_of_a_run_are_not_taken_for_pictures(folder, no_memory):
    inside = folder / "in" / "out"
    evaluate([Jpeg()], [], pictures_in(folder / "in", inside), inside, count=2)
    assert len(list(inside.rglob("*.jpg"))) > 3
    assert [p.name for p in pictures_in(folder / "in", inside)] == ["a", "b", "more/a"]
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match="holds no pictures"):
        pictures_in(folder / "empty", inside)
    with pytest.raises(DataError, match="Two codecs are called jpeg"):
        evaluate([Jpeg()], [Jpeg()], pictures_in(folder / "in", inside), inside, count=2)


@dataclass(frozen=True)
class Hungry(Jpeg):
    """Takes 96 MiB to encode."""

    def encode(self, image, setting):
        return np.ones(96 << 20, dtype=np.uint8).tobytes()[:9] + super().encode(image, setting)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a child inherits the mark of its parent")
def test_peak_memory_is_of_the_codec_and_not_of_who_asks(folder):
    ballast = np.ones(600 << 20, dtype=np.uint8)
    peak = encoding_memory(Hungry(), folder / "in" / "b.png", 50)
    assert 96 << 20 <= peak.highest - peak.before <= (2 * 96 + 16) << 20
    assert peak.before < ballast.nbytes


# --- the summary and the page --------------------------------------------------------------------------------------


class Reader(HTMLParser):
    """Open tags, and whatever a page would fetch."""

    VOID = {"meta", "img", "input", "link", "br"}

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.fetched += [value for name, value in attributes if name in ("src", "href", "srcset", "action", "data")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_published_curves_are_as_they_were_published():
    found = {anchor.label: anchor for anchor in published("kodak")}
    assert len(found) == 6
    assert all("github.com" in anchor.source and anchor.pictures == 24 for anchor in found.values())
    vtm, bpg = found["VTM (VVC), 4:4:4"].curves["psnr"], found["BPG 0.9.8, 4:4:4"].curves["psnr"]
    assert bd_rate(vtm, bpg).percent == pytest.approx(-18.0, abs=0.1)  # as computed from the same curves elsewhere
    with pytest.raises(DataError, match="There are: kodak"):
        published("clic")


def test_bd_rates_of_a_run_are_those_of_its_means(folder, no_memory):
    found = run(folder)
    whole = summary(found, published("kodak"), (0.1, 2.0))
    first = whole.lines[0]
    assert (first.model, first.other, first.published) == ("JPEG 4:2:0", "WebP", False)
    jpeg, webp = (
        RateCurve.of([p["bpp"] for p in found.means(name)], [p["psnr"] for p in found.means(name)])
        for name in ("jpeg", "webp")
    )
    assert first.rates["psnr"] == bd_rate(jpeg, webp, (0.1, 2.0))
    assert first.rates["ms_ssim"] is None  # one picture is too small for it
    assert set(first.pictures) == {"a", "b", "more/a"}
    assert sum(line.published for line in whole.lines) == 6
    assert "do not compare" in plain_text(whole)
    json.dumps(facts(whole), allow_nan=False)


def test_qualities_rise_as_pictures_get_better():
    assert as_quality("ms_ssim", 0.99) == pytest.approx(20)
    assert as_quality("gmsd", 0.1) == -0.1
    assert as_quality("psnr", 30.0) == 30.0
    assert as_quality("ms_ssim", 1.0) is None


def test_the_busiest_part_is_found_and_stays_inside():
    pixels = np.full((60, 80, 3), 128, dtype=np.uint8)
    pixels[30:40, 50:60] = np.random.default_rng(0).integers(0, 256, (10, 10, 3))
    top, left = busiest(pixels, (20, 20))
    assert top <= 30
    assert top + 20 >= 40
    assert left <= 50
    assert left + 20 >= 60
    assert busiest(pixels, (500, 500)) == (0, 0)


WITHOUT = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocker())
if __name__ == "__main__":
    from rdae.cli.main import main
    sys.exit(main())
"""


def command(folder: Path, *words: object, blocked: str = "torch") -> subprocess.CompletedProcess:
    script = folder / "without.py"
    script.write_text(WITHOUT.format(blocked=blocked), "utf-8")
    return subprocess.run(
        [sys.executable, str(script), "evaluate", *map(str, words)],
        cwd=folder, capture_output=True, text=True, timeout=600,
    )  # fmt: skip


@pytest.mark.skipif("photo" not in shipped_models(), reason="the package ships no model yet")
def test_the_command_writes_a_page_that_needs_nothing_else_and_no_pytorch(folder):
    (folder / "in" / "b.png").unlink()
    words = "photo", "--data", "in", "--against", "jpeg,webp", "--rates", 2, "--anchors", "kodak", "--range", "0.2,2"
    done = command(folder, *words)
    assert done.returncode == 0, done.stderr
    for name in ("rdae photo", "JPEG 4:2:0", "WebP", "VTM", "BD rate"):
        assert name in done.stdout
    assert "12 of 12 files" in done.stderr

    text = (folder / "evaluation" / "evaluation.html").read_text("utf-8")
    page = Reader()
    page.feed(text)
    assert page.open == []
    assert page.tags.count("img") == 2 + 2 * 4  # two figures; the original and three codecs, of two pictures
    assert page.tags.count("select") == 2 * 2
    assert all(place.startswith("data:image/png;base64,") for place in page.fetched)
    assert not re.search(r"https?://|@import|url\(", text)

    found = json.loads((folder / "evaluation" / "evaluation.json").read_text("utf-8"), parse_constant=pytest.fail)
    assert [codec["name"] for codec in found["codecs"]] == ["photo", "jpeg", "webp"]
    assert found["command"].startswith("rdae evaluate photo --data in --against jpeg,webp")
    assert found["bd_rate"]["anchor_bpp"] == [0.2, 2.0]
    if sys.platform == "linux":
        assert all(len(codec["peak_memory"]["encode_bytes"]) == 2 for codec in found["codecs"])


def test_a_codec_that_is_missing_is_said_and_skipped(folder, no_memory, monkeypatch, capsys):
    from rdae.cli import evaluating
    from rdae.coding import peers

    monkeypatch.setattr(peers, "Learned", lambda model: Jpeg2000())
    monkeypatch.setattr(WebP, "missing", lambda self: "it is not there; install it")
    assert evaluating.evaluate(["any"], folder / "in", "jpeg,webp", folder / "out", rates=2, as_json=True) == 0
    shown = capsys.readouterr()
    assert "WebP is left out: it is not there; install it" in shown.err
    assert [codec["name"] for codec in json.loads(shown.out)["codecs"]] == ["jpeg2000", "jpeg"]
    assert evaluating.evaluate(["any"], folder / "in", "webp", folder / "out", rates=2) == 0  # nobody is left


def test_without_matplotlib_it_says_what_to_install(folder):
    done = command(folder, "photo", "--data", "in", blocked="matplotlib")
    assert done.returncode == 1
    assert "pip install 'rdae[reports]'" in done.stderr
    assert not (folder / "evaluation").exists()


@pytest.mark.parametrize("text", ["1", "a,b", "1,0.1", "0,1"])
def test_a_range_that_is_none_is_refused_with_an_example(text):
    from rdae.cli.evaluating import _span

    with pytest.raises(DataError, match=r"--range 0\.1,1\.0"):
        _span(text)


def test_the_bd_rate_of_pictures_is_the_mean_of_those_that_have_one():
    pictures = {"a": BdRate(-10.0, 30.0, 40.0), "b": BdRate(-25.0, 31.0, 39.0), "c": None}
    assert BdLine("ours", "theirs", False, {}, pictures).of_pictures == -17.5
    assert BdLine("ours", "theirs", False, {}, {"c": None}).of_pictures is None


RUNS = sorted((ROOT / "docs" / "results").glob("evaluate-*.json"))


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_the_page_prints_the_committed_figures(monkeypatch, path):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    from evaluate_page import section

    found = json.loads(path.read_text(encoding="utf-8"))
    assert section(found) in (ROOT / "docs" / "evaluate.md").read_text(encoding="utf-8")
    curves = {codec["label"]: codec["settings"] for codec in found["codecs"]}
    for line in found["bd_rate"]["lines"]:
        if line["published"]:
            continue
        ours, other = (
            RateCurve.of([p["bpp"] for p in curves[label]], [p["psnr"] for p in curves[label]])
            for label in (line["codec"], line["against"])
        )
        assert bd_rate(ours, other, (0.1, 1.0)).percent == pytest.approx(line["percent_low_high"]["psnr"][0], abs=0.05)
