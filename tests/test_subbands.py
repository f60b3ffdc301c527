"""The sub-band codec: the linear path at the start, files that are what the model says, the same bits everywhere."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from conftest import Tiny, build_tiny, photograph

from rdae.channels import RateDistortionRounding, UniformNoise
from rdae.coding import pyramid
from rdae.coding.blending import NOTHING
from rdae.coding.codec import Codec
from rdae.coding.container import parse
from rdae.coding.model import Model, unpack_model
from rdae.coding.second_look import draft
from rdae.errors import ModelError
from rdae.networks.bytes import ByteConv
from rdae.networks.pyramid import PyramidEncoder, step_of
from rdae.networks.shuffle import depth_to_space, space_to_depth
from rdae.networks.subbands import SubbandDecoder
from rdae.networks.wavelet import opponent_to_rgb, wavelet_synthesis
from rdae.priors.subbands import SubbandPrior
from rdae.recipes.photo import photo, photo_ssim
from rdae.training.export_subbands import export_subbands

LEVELS = 5


@pytest.fixture(scope="module")
def tiny_codec(tiny: Tiny) -> Codec:
    return Codec(unpack_model(tiny.data, threads=1))


def picture(seed: int = 0, height: int = 128, width: int = 192) -> torch.Tensor:
    return torch.from_numpy(photograph(height, width, seed)).permute(2, 0, 1)[None].float() / 255


def test_an_untrained_model_is_the_linear_path() -> None:
    torch.manual_seed(0)
    y, lam = picture(), torch.tensor([900.0])
    symbols = [torch.round(band) for band in PyramidEncoder(LEVELS)(y, lam)]
    linear = opponent_to_rgb(wavelet_synthesis(symbols, step_of(lam))) + 0.5
    torch.testing.assert_close(SubbandDecoder()(symbols, lam), linear, atol=1e-6, rtol=0)


@pytest.fixture
def without_shifts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The encoder keeps to the scales of the networks, as the model does in training."""
    monkeypatch.setattr(pyramid, "best_shift", lambda *_: (0, 0.0))


@pytest.mark.usefixtures("without_shifts")
def test_a_file_holds_the_symbols_of_the_model(tiny: Tiny, tiny_codec: Codec) -> None:
    """The encoder without PyTorch, given the model's own latents, rounds to the model's own symbols."""
    y = picture(2)
    channel = RateDistortionRounding(tiny_codec.model.weight("distortion_weight"))
    for level in (20, 60, 100):
        lam = torch.tensor(tiny_codec.model.lam[level : level + 1], dtype=torch.float32)
        with torch.no_grad():
            latents = tiny.torch.encoder(y, lam)
            coded = tiny.torch.prior(latents, channel, lam)
        folded = [latents[0], *(space_to_depth(band) for band in latents[1:])]
        coder = tiny_codec._coder
        stream, symbols = coder.encode([x[0].numpy() for x in folded], level, (128, 192))
        expected = [coded.latent[0], *(space_to_depth(band) for band in coded.latent[1:])]
        pairs = list(zip(symbols, expected, strict=True))
        other = sum(int((mine != theirs[0].numpy()).sum()) for mine, theirs in pairs)
        assert other < 2e-4 * sum(mine.size for mine, _ in pairs)  # tables in 2**-16ths: near ties fall either way
        bits = float(coded.rate) / np.log(2)
        assert len(stream) * 8 == pytest.approx(bits, rel=0.01)
        for mine, theirs in zip(coder.decode(stream, level, (128, 192), (128, 192)), symbols, strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_the_synthesis_graph_is_the_decoder(tiny: Tiny, tiny_codec: Codec) -> None:
    level = 90
    y, lam = picture(3), torch.tensor(tiny_codec.model.lam[level : level + 1], dtype=torch.float32)
    with torch.no_grad():
        latents = tiny.torch.encoder(y, lam)
        symbols = [torch.round(band) for band in latents]
        shown = tiny.torch.decoder(symbols, lam)[0].permute(1, 2, 0).clamp(0, 1)
    model = tiny_codec.model
    whole = [symbols[0], *(space_to_depth(band) for band in symbols[1:])]
    inputs = tiny_codec._coder.synthesis_inputs([x[0].numpy().astype(np.int16) for x in whole], level)
    inputs |= tiny_codec._coder.maps(NOTHING)
    (pixels,) = model.run("synthesis", {**inputs, "lam": lam.numpy()}, 1)
    off = np.abs(pixels - shown.numpy())
    # what the corrector of pixels sees is rounded: a tie may fall either way, and moves a few samples by a little
    assert np.mean(off > 1e-4) < 0.01
    assert off.max() < 4 / 64 * float(step_of(lam))


def test_files_are_the_same_with_any_threads(each_codec: Codec) -> None:
    other = Codec(Model(each_codec.model._arrays, each_codec.model.identity, threads=2))
    for quality in (5, 40, 80):
        image = photograph(250, 301, quality)
        assert other.compress(image, quality) == each_codec.compress(image, quality)


def test_files_are_nearly_the_same_without_optimisations(tiny: Tiny, tiny_codec: Codec) -> None:
    """What the encoder sees at its second look is float: a near tie may fall the other way. Decoding is exact."""
    image = photograph(150, 201, 6)
    data = tiny_codec.compress(image, 40)
    other = Codec(unpack_model(tiny.data, threads=1, optimize=False))
    again = other.compress(image, 40)
    assert len(again) == pytest.approx(len(data), rel=1e-3)  # a few near ties
    first, second = (
        np.concatenate([q.ravel() for q in codec._decode_symbols(parse(file), "data").symbols])
        for codec, file in ((tiny_codec, data), (other, again))
    )
    assert np.mean(first != second) < 1e-3
    mine, theirs = other.decompress(data).pixels, tiny_codec.decompress(data).pixels
    assert np.abs(mine.astype(int) - theirs).max() <= 1  # the inverse wavelet is float


def test_every_layer_learns() -> None:
    torch.manual_seed(1)
    model = build_tiny().train()
    lam = torch.tensor([300.0, 3000.0])
    for _ in range(2):  # behind a last layer of zeros no gradient passes: let it move first
        out = model(torch.cat([picture(7), picture(8)]), lam)
        (out.terms.rate + lam * out.terms.distortion).sum().backward()
        with torch.no_grad():
            for layer in (*model.decoder.corrector.write, model.decoder.finisher.write):
                layer.weight -= 0.1 * torch.sign(layer.weight.grad)
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    # maps are learned from files, scripts/train_on_files.py
    assert not [name for name in still if "low." not in name and name != "decoder.blend.ways"]


def test_noise_is_refused() -> None:
    with pytest.raises(ModelError, match="Use RateDistortionRounding"):
        SubbandPrior()(PyramidEncoder()(picture(), torch.ones(1)), UniformNoise().train(), torch.ones(1))


def test_a_layer_beyond_the_exact_range_is_not_exported() -> None:
    model = build_tiny()
    with torch.no_grad():
        torch.nn.init.constant_(model.prior.nets[0].heads[0].hidden.bias, 1e9)
    with pytest.raises(ModelError, match="counts exactly"):
        export_subbands(model.eval(), photo(), {})


def test_steps_must_be_those_of_the_encoder() -> None:
    model = photo_ssim().model().eval()
    model.decoder.steps = None
    with pytest.raises(ModelError, match="same steps"):
        export_subbands(model, photo_ssim(), {})


@pytest.mark.usefixtures("without_shifts")
def test_a_codec_with_steps_and_masking_is_its_model() -> None:
    """Through files: what networks of bytes see, steps in the synthesis graph, masking in the analysis graph."""
    recipe = photo_ssim()
    torch.manual_seed(4)
    model = recipe.model().eval()
    with torch.no_grad():
        for layer in (
            *model.decoder.corrector.write,
            model.decoder.finisher.write,
        ):  # zero at the start: the test wants to see it act
            layer.weight.normal_(0, 0.1)
    codec = Codec(unpack_model(export_subbands(model, recipe, {}), threads=1))
    image, level = photograph(192, 192, 4), 100
    data = codec.compress(image, level / 2)
    lam = torch.tensor(codec.model.lam[level : level + 1], dtype=torch.float32)
    y = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    channel = RateDistortionRounding(codec.model.weight("distortion_weight"))
    with torch.no_grad():
        low, *details = model.encoder(y, lam)
        drafts = [torch.from_numpy(draft(space_to_depth(z)[0].numpy())).float()[None] for z in details]
        symbols = [depth_to_space(q) for q in drafts]
        made = model.decoder([torch.floor(low + 0.5), *symbols], lam).clamp(0, 1)
        coded = model.prior([low, *model.encoder.again(y, made, lam, symbols)], channel, lam)
        shown = (model.decoder(coded.latent, lam)[0].permute(1, 2, 0).clamp(0, 1) * 255).numpy()
    found = codec.decompress(data).pixels
    assert np.sqrt(np.square(found - shown).mean()) < 0.6  # a few near ties fall either way
    assert 8 * len(data) == pytest.approx(float(coded.rate) / np.log(2), rel=0.01, abs=8 * 60)


def test_held_out_pictures_may_be_smaller_than_ms_ssim_can_measure() -> None:
    recipe = photo_ssim()
    small = (255 * picture(5, 64, 128)).to(torch.uint8)
    points = recipe.validate(recipe.model().eval(), [small])
    assert all(0 < point["bpp"] < 24 and 15 < point["psnr_db"] <= 100 for point in points)


def test_the_graphs_of_the_prior_hold_bytes_only(tiny: Tiny, tiny_codec: Codec) -> None:
    """Nothing between symbols and tables is a float that could round differently elsewhere."""
    import onnx

    floats = {f"graph.{name}" for name in ("analysis", "reanalysis", "coarse", "synthesis", "moments", "pixels")}
    for name in tiny_codec.model._arrays:
        if name.startswith("graph.") and name not in floats:
            graph = onnx.load_model_from_string(tiny_codec.model.array(name).tobytes()).graph
            assert {node.op_type for node in graph.node} <= {
                "QLinearConv", "QLinearAdd", "Concat", "Transpose", "Identity", "Shape", "Expand", "Gather",
                "Reshape", "Mul",
            }  # fmt: skip
            scales = [onnx.numpy_helper.to_array(x) for x in graph.initializer if x.data_type == 1]
            for scale in scales:
                np.testing.assert_array_equal(np.log2(scale), np.log2(scale).round())
    assert onnxruntime.__version__
    assert any(isinstance(layer, ByteConv) for layer in tiny.torch.modules())
