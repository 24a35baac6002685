"""Train tiny-shapes from nothing: a text-conditional latent diffusion model of 64 px drawings.

    python train.py --out .                    under an hour on two CPU cores
    python train.py --out . --judge-only       judge what lies there: 24 prompts, 4 seeds each

Four stages, each kept under --work, so that a killed run goes on where it was:
1. tokenizer: a byte-pair encoding of 200 tokens in CLIP's form, counted from the captions
2. autoencoder: picture <-> 4 x 16 x 16 latents; ends only when its reconstructions are judged right, all of them
3. text encoder and U-Net together: v-prediction, zero terminal SNR, one caption in ten left empty (for guidance)
4. pipeline: a stock StableDiffusionPipeline in safetensors, half precision, judged before it is called done
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from shapes import CAPTIONS, COLOURS, PROMPTS, SHAPES, SIZE, draw_jittered, judge
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

VOCABULARY = 200
LENGTH = 16
START, END = "<|startoftext|>", "<|endoftext|>"
SEEDS = (0, 1, 2, 3)
STEPS, GUIDANCE = 15, 3.0


@dataclass(frozen=True)
class Plan:
    """Say where things go and how long each stage may take."""

    out: Path
    work: Path
    seed: int
    vae_steps: int
    vae_polish: int
    unet_steps: int
    minutes: float


def main() -> int:
    """Run the stages that are not done yet, then judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="where the pipeline is written")
    parser.add_argument("--work", type=Path, default=Path("work"), help="where a killed run's state is kept")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--vae-steps", type=int, default=1000)
    parser.add_argument("--vae-polish", type=int, default=400, help="steps of each further round at a lower rate")
    parser.add_argument("--unet-steps", type=int, default=2300)
    parser.add_argument("--minutes", type=float, default=35, help="give up on a stage that outlasts this")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--judge-only", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.judge_only:
        return report_verdict(judge_pipeline(arguments.out))
    arguments.work.mkdir(parents=True, exist_ok=True)
    plan = Plan(
        arguments.out,
        arguments.work,
        arguments.seed,
        arguments.vae_steps,
        arguments.vae_polish,
        arguments.unet_steps,
        arguments.minutes,
    )
    tokenizer = make_tokenizer()
    vae = train_autoencoder(plan)
    text_encoder, unet = train_denoiser(plan, tokenizer, vae)
    save_pipeline(plan.out, tokenizer, vae, text_encoder, unet)
    return report_verdict(judge_pipeline(plan.out))


# -- tokenizer -----------------------------------------------------------------------------------------------------


def make_tokenizer() -> CLIPTokenizer:
    """Learn byte pairs from the captions, in CLIP's form: lower case, `</w>` ends a word, what is unknown is END."""
    alphabet = [*"abcdefghijklmnopqrstuvwxyz0123456789", *".,!?'-"]
    vocabulary = [START, END, *alphabet, *(letter + "</w>" for letter in alphabet)]
    merges = learn_merges(caption_words(), room=VOCABULARY - len(vocabulary))
    vocabulary += [left + right for left, right in merges]
    ids = {token: index for index, token in enumerate(vocabulary)}
    tokenizer = CLIPTokenizer(
        vocab=ids,
        merges=merges,
        model_max_length=LENGTH,
        unk_token=END,
        bos_token=START,
        eos_token=END,
        pad_token=END,
    )
    say(f"tokenizer: {len(vocabulary)} tokens, 'a red circle' -> {tokenizer('a red circle')['input_ids']}")
    return tokenizer


def caption_words() -> Counter[str]:
    """Count the words of all captions."""
    captions = (form.format(colour=colour, shape=shape) for form in CAPTIONS for colour in COLOURS for shape in SHAPES)
    return Counter(word for caption in captions for word in caption.split())


def learn_merges(words: Counter[str], *, room: int) -> list[tuple[str, str]]:
    """Merge the most frequent pair of neighbours again and again, until the room is used or every word is whole."""
    spelt = {word: (*word[:-1], word[-1] + "</w>") for word in words}
    merges: list[tuple[str, str]] = []
    while len(merges) < room:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, parts in spelt.items():
            for pair in pairwise(parts):
                pairs[pair] += words[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        spelt = {word: merge(parts, best) for word, parts in spelt.items()}
    return merges


def merge(parts: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    """Join each occurrence of the pair."""
    joined: list[str] = []
    for part in parts:
        if joined and (joined[-1], part) == pair:
            joined[-1] += part
        else:
            joined.append(part)
    return tuple(joined)


# -- autoencoder ---------------------------------------------------------------------------------------------------


def new_autoencoder() -> AutoencoderKL:
    """Build the autoencoder: three levels, a quarter of the side, no attention."""
    return AutoencoderKL(
        sample_size=SIZE,
        block_out_channels=(32, 48, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=4,
        mid_block_add_attention=False,
    )


def train_autoencoder(plan: Plan) -> AutoencoderKL:
    """Train until reconstructions of all 24 drawings, four times each, are judged right."""
    torch.manual_seed(plan.seed)
    # Channels last: a quarter less time a step on a CPU.
    vae = new_autoencoder().to(memory_format=torch.channels_last)
    kept = plan.work / "vae.safetensors"
    step = restore(vae, kept)
    say(f"autoencoder: {parameters(vae):,} parameters, from step {step}")
    optimiser = torch.optim.AdamW(vae.parameters(), lr=1e-3, weight_decay=1e-4)
    started = time.monotonic()
    while True:
        at_rest = step >= plan.vae_steps and (step - plan.vae_steps) % plan.vae_polish == 0
        if at_rest and step > plan.vae_steps:
            right, decibel = judge_reconstructions(vae)
            say(f"autoencoder: step {step}, reconstructions {right} of {24 * len(SEEDS)} right, {decibel:.1f} dB")
            if right == 24 * len(SEEDS):
                break
        if time.monotonic() - started > plan.minutes * 60:
            raise SystemExit(f"autoencoder: not good enough after {plan.minutes} minutes")
        rate = autoencoder_rate(step, plan)
        for group in optimiser.param_groups:
            group["lr"] = rate
        loss = autoencoder_loss(vae, autoencoder_batch(plan.seed, step, 16))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimiser.step()
        step += 1
        if step % 50 == 0:
            keep(vae, kept, step)
            say(f"autoencoder: step {step}, loss {loss.item():.4f}, rate {rate:.1e}, {clock(started)}")
    vae.register_to_config(scaling_factor=scaling_factor(vae))
    say(f"autoencoder: done, scaling factor {vae.config.scaling_factor:.4f}")
    return vae


def autoencoder_rate(step: int, plan: Plan) -> float:
    """Give the learning rate: one long cycle, then short ones that fall to nothing."""
    if step < plan.vae_steps:
        return one_cycle(step, plan.vae_steps, peak=1.5e-3)
    within = (step - plan.vae_steps) % plan.vae_polish
    return 8e-4 * (1 + math.cos(math.pi * within / plan.vae_polish)) / 2


def autoencoder_batch(seed: int, step: int, count: int) -> torch.Tensor:
    """Draw a batch, every other picture in any colour: so the autoencoder learns colour, not six colours."""
    rng = random.Random(f"vae {seed} {step}")
    palette = list(COLOURS.values())
    pictures = []
    for index in range(count):
        free = (rng.randint(0, 255), rng.randint(0, 255), rng.randint(0, 255))
        colour = free if index % 2 else rng.choice(palette)
        pictures.append(draw_jittered(rng.choice(SHAPES), colour, rng))
    return to_tensor(pictures)


def autoencoder_loss(vae: AutoencoderKL, x: torch.Tensor) -> torch.Tensor:
    """Weigh the error of pixels and, more, of 8 x 8 patches (where a colour cast shows)."""
    posterior = vae.encode(x).latent_dist
    y = vae.decode(posterior.sample()).sample
    pooled = functional.mse_loss(functional.avg_pool2d(y, 8), functional.avg_pool2d(x, 8))
    loss: torch.Tensor = (
        functional.l1_loss(y, x) + 2 * functional.mse_loss(y, x) + 4 * pooled + 1e-5 * posterior.kl().mean()
    )
    return loss


@torch.no_grad()
def judge_reconstructions(vae: AutoencoderKL) -> tuple[int, float]:
    """Count the drawings that are still recognised after encoding and decoding; give the mean PSNR too."""
    right, error = 0, 0.0
    for seed in SEEDS:
        rng = random.Random(f"held out {seed}")
        wanted = [(colour, shape) for colour in COLOURS for shape in SHAPES]
        x = to_tensor([draw_jittered(shape, COLOURS[colour], rng) for colour, shape in wanted])
        y = vae.decode(vae.encode(x).latent_dist.mode()).sample
        error += functional.mse_loss(y.clamp(-1, 1), x).item() / len(SEEDS)
        right += sum(judge(picture) == want for picture, want in zip(to_pictures(y), wanted, strict=True))
    return right, 10 * math.log10(4 / error)


@torch.no_grad()
def scaling_factor(vae: AutoencoderKL) -> float:
    """Find the factor that gives latents a standard deviation of one."""
    x = torch.cat([autoencoder_batch(0, step, 32) for step in range(8)])
    return round(1 / vae.encode(x).latent_dist.mode().std().item(), 5)


# -- text encoder and U-Net ----------------------------------------------------------------------------------------


def new_denoiser() -> tuple[CLIPTextModel, UNet2DConditionModel]:
    """Build a text encoder of two layers and a U-Net of two levels, the lower one listening to the text."""
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=VOCABULARY,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=LENGTH,
            projection_dim=64,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        )
    )
    unet = UNet2DConditionModel(
        sample_size=SIZE // 4,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(48, 96),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=64,
        attention_head_dim=8,
        norm_num_groups=8,
    )
    return text_encoder, unet


def new_scheduler() -> DDIMScheduler:
    """Build the noise schedule; zero terminal SNR, because these pictures are mostly light and start as pure noise."""
    return DDIMScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        steps_offset=1,
        clip_sample=False,
    )


class Denoiser(torch.nn.Module):
    """Hold the two modules that are trained together, so that they are averaged and kept as one."""

    def __init__(self) -> None:
        super().__init__()
        self.text_encoder, self.unet = new_denoiser()
        self.unet.to(memory_format=torch.channels_last)


def train_denoiser(
    plan: Plan, tokenizer: CLIPTokenizer, vae: AutoencoderKL
) -> tuple[CLIPTextModel, UNet2DConditionModel]:
    """Train text encoder and U-Net on latents made once, and return their running averages."""
    torch.manual_seed(plan.seed + 1)
    model, average, scheduler = Denoiser(), Denoiser(), new_scheduler()
    kept = plan.work / "denoiser.safetensors"
    step = restore(model, kept)
    average.load_state_dict(model.state_dict())
    restore(average, plan.work / "denoiser-average.safetensors")
    say(f"denoiser: {parameters(model.text_encoder):,} + {parameters(model.unet):,} parameters, from step {step}")
    started = time.monotonic()
    latents, labels = latent_pool(vae, plan.seed, per_kind=320)
    say(f"denoiser: {len(latents):,} latents, {clock(started)}")
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-3)
    for step in range(step, plan.unet_steps):  # noqa: B020 - going on from the kept step
        rate = one_cycle(step, plan.unet_steps, peak=2e-3)
        for group in optimiser.param_groups:
            group["lr"] = rate
        torch.manual_seed(plan.seed * 1_000_003 + step)
        picks = torch.randint(len(latents), (32,))
        rng = random.Random(f"captions {plan.seed} {step}")
        captions = [caption(*labels[pick], rng) for pick in picks.tolist()]
        loss = denoiser_loss(model, scheduler, latents[picks], token_ids(tokenizer, captions))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        blend(average, model, keep_share=min(0.995, (1 + step) / (10 + step)))
        if (step + 1) % 50 == 0:
            keep(model, kept, step + 1)
            keep(average, plan.work / "denoiser-average.safetensors", step + 1)
            say(f"denoiser: step {step + 1}, loss {loss.item():.4f}, rate {rate:.1e}, {clock(started)}")
        if time.monotonic() - started > plan.minutes * 60:
            raise SystemExit(f"denoiser: not done after {plan.minutes} minutes; run again to go on")
    return average.text_encoder.eval(), average.unet.eval()


@torch.no_grad()
def latent_pool(vae: AutoencoderKL, seed: int, *, per_kind: int) -> tuple[torch.Tensor, list[tuple[str, str]]]:
    """Draw and encode each of the 24 kinds many times; encoding at every step would cost half of the training."""
    rng = random.Random(f"pool {seed}")
    labels = [(colour, shape) for colour in COLOURS for shape in SHAPES for _ in range(per_kind)]
    batches = [labels[start : start + 64] for start in range(0, len(labels), 64)]
    latents = [
        vae.encode(
            to_tensor([draw_jittered(shape, COLOURS[colour], rng) for colour, shape in batch])
        ).latent_dist.mode()
        for batch in batches
    ]
    return torch.cat(latents) * vae.config.scaling_factor, labels


def caption(colour: str, shape: str, rng: random.Random) -> str:
    """Say a picture in words: one time in ten not at all, else half of the time in the plainest form."""
    if rng.random() < 0.1:
        return ""
    form = CAPTIONS[0] if rng.random() < 0.5 else rng.choice(CAPTIONS)
    return form.format(colour=colour, shape=shape) + rng.choice(("", "", "", "."))


def token_ids(tokenizer: CLIPTokenizer, captions: list[str]) -> torch.Tensor:
    """Turn captions into ids as the pipeline does: padded and cut to the model's length."""
    found = tokenizer(captions, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt")
    ids: torch.Tensor = found["input_ids"]
    return ids


def denoiser_loss(model: Denoiser, scheduler: DDIMScheduler, clean: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Measure how far the predicted velocity is from the true one, at random times."""
    noise = torch.randn_like(clean)
    t = torch.randint(scheduler.config.num_train_timesteps, (len(clean),))
    noisy = scheduler.add_noise(clean, noise, t)
    text = model.text_encoder(ids)[0]
    return functional.mse_loss(model.unet(noisy, t, text).sample, scheduler.get_velocity(clean, noise, t))


@torch.no_grad()
def blend(average: torch.nn.Module, model: torch.nn.Module, *, keep_share: float) -> None:
    """Move the average a little towards the model."""
    for slow, fast in zip(average.parameters(), model.parameters(), strict=True):
        slow.lerp_(fast, 1 - keep_share)


# -- pipeline ------------------------------------------------------------------------------------------------------


def save_pipeline(
    out: Path, tokenizer: CLIPTokenizer, vae: AutoencoderKL, text_encoder: CLIPTextModel, unet: UNet2DConditionModel
) -> None:
    """Write a stock pipeline in half precision: six megabytes instead of twelve, the same verdicts."""
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=new_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(dtype=torch.float16)
    pipeline.save_pretrained(out, safe_serialization=True)
    for path in out.rglob("*.safetensors"):
        path.chmod(0o644)
    say(f"pipeline: written to {out}")


@torch.no_grad()
def judge_pipeline(folder: Path) -> list[tuple[str, int, str, str]]:
    """Draw all 24 prompts with four seeds each, by the pipeline as it is stored; list prompt, seed and what is seen."""
    pipeline = StableDiffusionPipeline.from_pretrained(folder, use_safetensors=True, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    verdicts = []
    started = time.monotonic()
    for seed in SEEDS:
        for prompt in PROMPTS:
            generator = torch.Generator("cpu").manual_seed(seed)
            drawn = pipeline(prompt, num_inference_steps=STEPS, guidance_scale=GUIDANCE, generator=generator)
            verdicts.append((prompt, seed, *judge(drawn.images[0])))
    say(f"pipeline: {(time.monotonic() - started) / len(verdicts):.3f} s a picture, {torch.get_num_threads()} threads")
    return verdicts


def report_verdict(verdicts: list[tuple[str, int, str, str]]) -> int:
    """Print what was drawn wrong and the totals; 0 when at least 95 of 100 are right."""
    right_colour = right_shape = right = 0
    for prompt, seed, colour, shape in verdicts:
        _, wanted_colour, wanted_shape = prompt.split()
        right_colour += colour == wanted_colour
        right_shape += shape == wanted_shape
        right += (colour, shape) == (wanted_colour, wanted_shape)
        if (colour, shape) != (wanted_colour, wanted_shape):
            say(f"wrong: {prompt!r}, seed {seed}: {colour} {shape}")
    total = len(verdicts)
    say(f"judged: {right} of {total} right; colour {right_colour}, shape {right_shape}")
    return 0 if right >= 0.95 * total else 1


# -- small things --------------------------------------------------------------------------------------------------


def to_tensor(pictures: Iterable[Image.Image]) -> torch.Tensor:
    """Stack pictures as values from -1 to 1."""
    stacked = np.stack([np.asarray(picture, dtype=np.float32) for picture in pictures])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2) / 127.5 - 1  # (pictures, 3, 64, 64)


def to_pictures(x: torch.Tensor) -> list[Image.Image]:
    """Turn values from -1 to 1 back into pictures."""
    pixels = ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return [Image.fromarray(picture) for picture in pixels]


def one_cycle(step: int, total: int, *, peak: float) -> float:
    """Rise to the peak in the first tenth, then fall to almost nothing along a cosine."""
    rise = max(1, total // 10)
    if step < rise:
        return peak * (0.04 + 0.96 * step / rise)
    return max(peak * 1e-3, peak * (1 + math.cos(math.pi * (step - rise) / (total - rise))) / 2)


def keep(model: torch.nn.Module, path: Path, step: int) -> None:
    """Keep the weights and the step; the old file stays whole until the new one is."""
    unfinished = path.with_suffix(".part")
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, unfinished, {"step": str(step)})
    unfinished.replace(path)


def restore(model: torch.nn.Module, path: Path) -> int:
    """Take up the weights that an earlier run kept, and give its step; 0 when there are none."""
    if not path.exists():
        return 0
    model.load_state_dict(load_file(path))
    with safe_open(path, "pt") as kept:
        return int(kept.metadata()["step"])


def parameters(model: torch.nn.Module) -> int:
    """Count the parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def clock(started: float) -> str:
    """Say how long it has been."""
    return f"{time.monotonic() - started:.0f} s"


def say(line: str) -> None:
    """Print a line of progress at once."""
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
