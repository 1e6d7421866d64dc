from __future__ import annotations

from transformers import (
    ASTConfig,
    ASTModel,
    Qwen2AudioConfig,
    Qwen2AudioForConditionalGeneration,
    Wav2Vec2Config,
    Wav2Vec2Model,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

from tests.inputs.tiny import TEXT, made_and_run, on_meta

_ENCODER = {
    "d_model": 32,
    "encoder_layers": 2,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "num_mel_bins": 20,
    "max_source_positions": 100,
}


def whisper():
    config = WhisperConfig(
        **_ENCODER,
        decoder_layers=1,
        decoder_attention_heads=4,
        decoder_ffn_dim=64,
        vocab_size=100,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    return on_meta(WhisperForConditionalGeneration, config)


def test_spectrogram_of_the_length_that_positions_fix():
    example, trace = made_and_run(whisper())
    assert example.kwargs["input_features"].shape == (1, 20, 200)
    assert trace.output.logits.shape == (1, 4, 100)


def test_sounds_in_the_text():
    config = Qwen2AudioConfig(
        audio_config=_ENCODER, text_config={"model_type": "qwen2", **TEXT}, audio_token_index=100
    )
    model = on_meta(Qwen2AudioForConditionalGeneration, config)
    example, trace = made_and_run(model, tokens=16, sounds=2)
    assert example.modalities == ("text", "audio") and not example.notes
    assert (example.kwargs["input_ids"] == 100).sum() == 2 * 50
    assert trace.output.logits.shape[1] == 16 + 2 * 50


def test_waveform():
    config = Wav2Vec2Config(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=64,
        conv_dim=[16] * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
    )
    example, _ = made_and_run(on_meta(Wav2Vec2Model, config), batch=2)
    assert example.kwargs["input_values"].shape == (2, 30720)


def test_spectrogram_under_the_name_of_a_waveform():
    config = ASTConfig(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=64,
        max_length=64,
        num_mel_bins=32,
    )
    example, _ = made_and_run(on_meta(ASTModel, config))
    assert example.kwargs["input_values"].shape == (1, 64, 32)
