"""Feedback: the answer is compared with the picture and corrected; trained, saved, carried over and run as any network."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from little_corpus import TINY, corpus_in_memory, little_config
from little_face import little_model, smooth_image

from mofaface.autoencoder import Autoencoder
from mofaface.camera import Camera
from mofaface.decoder import Decoder
from mofaface.encoders import EncoderConfig, build_encoder
from mofaface.encoders.efficientnet import EfficientNetLite2
from mofaface.encoders.evidence import readings_of
from mofaface.encoders.feedback import SHARES
from mofaface.encoders.mobilenet import MobileNetV2
from mofaface.face_models.container import read_face_model
from mofaface.training.batches import make_batch
from mofaface.training.config import NO_AUGMENTATION, OptimiserConfig
from mofaface.training.start import carry_encoder
from mofaface.training.trainer import Trainer
from mofaface.weights import read_autoencoder, write_weights

FEEDBACK = replace(TINY, feedback=2, hidden=16)


@pytest.fixture(scope="module")
def decoder():
    return Decoder(little_model(side=17).float())


def learned(decoder, config=FEEDBACK, seed=0):
    """A network whose last layers answer something."""
    torch.manual_seed(seed)
    encoder = build_encoder(config, decoder.model.layout, decoder=decoder).eval()
    for parameter in (*encoder.head.parameters(), encoder.feedback.last.weight):
        torch.nn.init.normal_(parameter, std=0.05)
    return encoder


@pytest.fixture(scope="module")
def images():
    return torch.cat([smooth_image(seed) for seed in range(3)]).float()


def test_the_first_correction_is_a_share_of_the_evidence(decoder, images):
    layout = decoder.model.layout
    encoder = build_encoder(FEEDBACK, layout, decoder=decoder).eval()
    first, second, _ = encoder.answers(images)
    assert not layout.pack(first).any()
    step = encoder.feedback.evidence(readings_of(images), first).step
    assert layout.pack(step).abs().min(0).values.count_nonzero() == layout.size
    for name, share in SHARES.items():
        torch.testing.assert_close(getattr(second, name), share * getattr(step, name))


def test_each_round_starts_from_the_answer_before_it(decoder, images):
    layout = decoder.model.layout
    encoder = learned(decoder)
    three = [layout.pack(code) for code in encoder.answers(images)]
    assert len(three) == 3
    maps = encoder.backbone.features_and_maps(images)[1]
    torch.testing.assert_close(encoder.feedback(readings_of(images), three[1], maps), three[2])
    torch.testing.assert_close(layout.pack(encoder(images)), three[2])
    assert (three[1] - three[0]).abs().max() > 1e-3 and (three[2] - three[1]).abs().max() > 1e-3


def test_answers_do_not_depend_on_the_others_of_a_batch(decoder, images):
    layout, encoder = decoder.model.layout, learned(decoder)
    together = layout.pack(encoder(images))
    for i in range(3):
        torch.testing.assert_close(
            layout.pack(encoder(images[i : i + 1]))[0], together[i], rtol=1e-3, atol=1e-3
        )


def test_a_round_is_learned_from_its_own_answer_alone(decoder, images):
    encoder = learned(decoder)
    layout = decoder.model.layout
    layout.pack(encoder.answers(images)[1]).square().sum().backward()
    assert all(parameter.grad is None for parameter in encoder.head.parameters())
    assert encoder.feedback.first.weight.grad.abs().max() > 0 and encoder.feedback.fine.weight.grad.any()
    assert encoder.backbone.features[0][0].weight.grad.any()  # by the maps


def test_maps_are_looked_up_where_their_cells_are(decoder):
    """A map that says of each cell where its centre lies: the first on the first pixel, the next a stride further."""
    feedback = learned(decoder).feedback.requires_grad_(False)
    for layer in (feedback.fine, feedback.coarse):
        torch.nn.init.zeros_(layer.bias)
        torch.nn.init.zeros_(layer.weight)[0, 0] = 1
    maps = [
        torch.arange(cells).mul(stride).add(0.5).expand(1, channels, cells, cells)
        for cells, stride, channels in ((8, 4, 24), (4, 8, 32))
    ]
    places = torch.rand(1, 20, 2, generator=torch.Generator().manual_seed(0)) * 150 + 20
    for found in feedback._looked_up(places, tuple(maps)):
        seen = found.unflatten(1, (20, -1))[0, :, 0]
        torch.testing.assert_close(seen, places[0, :, 0] * FEEDBACK.input_size / 240)


@pytest.mark.parametrize("network, fine, coarse", [(MobileNetV2, 24, 32), (EfficientNetLite2, 24, 48)])
def test_maps_are_of_a_fourth_and_an_eighth_of_the_size(network, fine, coarse):
    backbone = network(input_size=64).eval()
    image = torch.rand(1, 3, 240, 240)
    features, maps = backbone.features_and_maps(image)
    assert backbone.map_channels == (fine, coarse)
    assert [tuple(m.shape) for m in maps] == [(1, fine, 16, 16), (1, coarse, 8, 8)]
    torch.testing.assert_close(features, backbone(image))


def test_networks_without_maps_and_feedback_without_a_face_are_refused(decoder):
    layout = decoder.model.layout
    with pytest.raises(ValueError, match="needs the backbone mobilenet or efficientnet, got alexnet"):
        build_encoder(EncoderConfig("alexnet", feedback=1), layout, decoder=decoder)
    with pytest.raises(ValueError, match="give build_encoder its decoder"):
        build_encoder(FEEDBACK, layout)
    with pytest.raises(ValueError, match="number of rounds, 0 for none, got -1"):
        build_encoder(replace(FEEDBACK, feedback=-1), layout, decoder=decoder)


def test_weights_with_feedback_are_written_and_read(tmp_path, model_path, images):
    model = read_face_model(model_path)
    encoder = learned(Decoder(model))
    # Other points than a new network would choose: those of the file count.
    points = encoder.feedback.evidence.points
    encoder.feedback.evidence.load_state_dict({"points": torch.cat((points[:-1], points[:1]))})
    path = tmp_path / "w.safetensors"
    write_weights(path, encoder.state_dict(), FEEDBACK, Decoder(model), {"iteration": 7}, torch.float32)
    read = read_autoencoder(path, model).encoder
    layout = model.layout
    torch.testing.assert_close(layout.pack(read(images)), layout.pack(encoder(images)), rtol=0, atol=0)
    assert not any(parameter.requires_grad for parameter in read.parameters())


def test_feedback_begins_anew_or_is_kept_or_left_out(decoder):
    model, layout = decoder.model, decoder.model.layout
    plain = build_encoder(TINY, layout)
    for old, new in ((plain, FEEDBACK), (learned(decoder), FEEDBACK), (learned(decoder), TINY)):
        encoder = build_encoder(new, layout, decoder=decoder)
        carry_encoder(old, model, Camera(), encoder, model)
        kept = old.state_dict()
        own = {name: t for name, t in encoder.state_dict().items() if name in kept}
        assert all(torch.equal(t, kept[name]) for name, t in own.items())
        assert any(name.startswith("feedback.") for name in own) == (old is not plain and new is FEEDBACK)
    with pytest.raises(ValueError, match="same network"):
        wide = build_encoder(replace(FEEDBACK, hidden=17), layout, decoder=decoder)
        carry_encoder(learned(decoder), model, Camera(), wide, model)


def test_feedback_is_not_carried_to_another_face_model(decoder):
    other = little_model(side=17, seed=1).float()
    other.digest = "another"
    encoder = build_encoder(FEEDBACK, other.layout, decoder=Decoder(other))
    with pytest.raises(ValueError, match="reads the codes of one face model.*--encoder.feedback 0"):
        carry_encoder(learned(decoder), decoder.model, Camera(), encoder, other)


def test_a_copy_of_the_network_shares_the_face_model(decoder):
    encoder = learned(decoder)
    assert deepcopy(encoder).feedback.evidence._shared.model is decoder.model
    assert not any("shape" in name or "basis" in name for name in encoder.state_dict())


def some_faces(count, seed=0):
    """A batch of rendered little faces where the trainer's network is."""
    batch = make_batch(corpus_in_memory(count, seed), list(range(count)), NO_AUGMENTATION, [0])
    return batch.to("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture
def config(corpus_path, model_path, tmp_path, monkeypatch):
    monkeypatch.setattr("mofaface.training.monitor._tensorboard", lambda folder: None)
    little = little_config(corpus_path, model_path, tmp_path / "run", batch=4, iterations=6, average=0.9)
    return replace(little, encoder=FEEDBACK)


def test_a_network_with_feedback_learns_all_its_answers(config):
    eight = some_faces(8)
    optimiser = OptimiserConfig(rate=2e-3, rate_z=2e-3, warmup=5, cosine=False)
    trainer = Trainer(replace(config, optimiser=optimiser, iterations=40))
    losses = []
    for _ in range(40):
        trainer.step(eight)
        losses.append(trainer.tally.means())
    assert losses[-1]["loss"] < 0.5 * losses[0]["loss"]
    encoder, terms = trainer.autoencoder.encoder.eval(), trainer._step.terms
    with torch.no_grad():
        photo = [terms(code, eight.image).photo.mean() for code in encoder.answers(eight.image)]
    assert photo[-1] < photo[0]


def test_a_batch_that_is_no_number_changes_nothing(config):
    batch, trainer = some_faces(4), Trainer(config)
    before = {name: t.clone() for name, t in trainer.autoencoder.encoder.state_dict().items()}
    image = batch.image.clone()
    image[1, 0, 100:140, 100:140] = float("nan")
    trainer.step(replace(batch, image=image))
    assert all(torch.equal(t, before[name]) for name, t in trainer.autoencoder.encoder.state_dict().items())
    trainer.step(batch)
    assert any((t != before[name]).any() for name, t in trainer.autoencoder.encoder.state_dict().items())


def test_a_checkpoint_with_feedback_is_read_again(config):
    trainer = Trainer(config)
    trainer.step(some_faces(4))
    config.out.mkdir(parents=True)
    trainer.save()
    again = Trainer(config, fresh=False)
    again.resume()
    for run in (trainer, again):
        run.step(some_faces(4, seed=1))
    ours, theirs = (t.autoencoder.encoder.state_dict() for t in (trainer, again))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_onnx_runtime_gives_the_answers_of_torch(decoder, images):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from mofaface.encoders.onnx_encoder import OnnxEncoder

    encoder = learned(decoder).requires_grad_(False)
    layout = decoder.model.layout
    fast = OnnxEncoder(encoder)
    for count in (1, 3):
        expected, found = encoder(images[:count]), fast(images[:count])
        torch.testing.assert_close(layout.pack(found), layout.pack(expected), rtol=1e-3, atol=1e-3)


def test_export_of_feedback_to_onnx_is_refused_in_a_sentence(decoder, tmp_path):
    pytest.importorskip("onnxscript")
    from mofaface.onnx_export import export_onnx

    with pytest.raises(ValueError, match="'mine' correct their answer.*such as 'fast'"):
        export_onnx(Autoencoder(learned(decoder), decoder), tmp_path / "face", "mine")
    assert not list(tmp_path.iterdir())
