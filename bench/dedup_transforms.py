"""The 28 ways to change a picture that copies on the web come in, and the hashes of others to compare with.

Each is a function of the picture alone: no draw, no file. Shares are of a side: crop_10 leaves the middle 90 % of width
and of height, border_3 adds 3 % on each side. Pictures that were encoded on the way are decoded by Pillow.
"""

from __future__ import annotations

import io
from collections.abc import Callable

from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

Picture = Image.Image
Transform = Callable[[Picture], Picture]
FONT = 10  # pixels; what is drawn is enlarged from it


def encoded(picture: Picture, form: str, quality: int) -> Picture:
    out = io.BytesIO()
    picture.save(out, form, quality=quality)
    return Image.open(out).convert("RGB")


def resized(picture: Picture, by: float, how: Image.Resampling = Image.Resampling.BICUBIC) -> Picture:
    return picture.resize((max(8, round(picture.width * by)), max(8, round(picture.height * by))), how)


def cropped(picture: Picture, share: float, left: float = 0.5) -> Picture:
    """Without `share` of each side; `left` of what goes, goes on the left and at the top."""
    wide, high = round(picture.width * share), round(picture.height * share)
    x, y = round(wide * left), round(high * left)
    return picture.crop((x, y, x + picture.width - wide, y + picture.height - high))


def bordered(picture: Picture, share: float) -> Picture:
    return ImageOps.expand(picture, (round(picture.width * share), round(picture.height * share)), (0, 0, 0))


def stamped(picture: Picture, height: float, opacity: float, centred: bool) -> Picture:
    """With words of `height` of the picture's height laid over it, in white."""
    font = ImageFont.load_default(max(FONT, round(picture.height * height)))
    words = Image.new("L", picture.size)
    at = (picture.width / 2, picture.height / 2) if centred else (picture.width * 0.98, picture.height * 0.98)
    ImageDraw.Draw(words).text(at, "SAMPLE", fill=round(255 * opacity), font=font, anchor="mm" if centred else "rs")
    return Image.composite(Image.new("RGB", picture.size, "white"), picture, words)


def captioned(picture: Picture) -> Picture:
    """Under a white bar of a fifth of its height, with words in black."""
    bar = round(picture.height * 0.2)
    out = Image.new("RGB", (picture.width, picture.height + bar), "white")
    out.paste(picture, (0, bar))
    font = ImageFont.load_default(max(FONT, round(bar * 0.5)))
    ImageDraw.Draw(out).text((out.width / 2, bar / 2), "WHEN YOU SEE IT", fill="black", font=font, anchor="mm")
    return out


def combined(picture: Picture) -> Picture:
    return encoded(stamped(cropped(resized(picture, 0.5), 0.05), 0.06, 0.6, centred=False), "JPEG", 50)


TRANSFORMS: dict[str, Transform] = {
    "jpeg_q95": lambda p: encoded(p, "JPEG", 95),
    "jpeg_q75": lambda p: encoded(p, "JPEG", 75),
    "jpeg_q50": lambda p: encoded(p, "JPEG", 50),
    "jpeg_q30": lambda p: encoded(p, "JPEG", 30),
    "webp_q50": lambda p: encoded(p, "WEBP", 50),
    "resize_0.25": lambda p: resized(p, 0.25),
    "resize_0.5": lambda p: resized(p, 0.5),
    "resize_2": lambda p: resized(p, 2),
    "resize_0.25_nearest": lambda p: resized(p, 0.25, Image.Resampling.NEAREST),
    "aspect_0.8": lambda p: p.resize((max(8, round(p.width * 0.8)), p.height), Image.Resampling.BICUBIC),
    "crop_5": lambda p: cropped(p, 0.05),
    "crop_10": lambda p: cropped(p, 0.10),
    "crop_20": lambda p: cropped(p, 0.20),
    "crop_10_corner": lambda p: cropped(p, 0.10, left=1.0),
    "border_3": lambda p: bordered(p, 0.03),
    "border_10": lambda p: bordered(p, 0.10),
    "watermark_big": lambda p: stamped(p, 0.20, 0.35, centred=True),
    "watermark_small": lambda p: stamped(p, 0.06, 0.6, centred=False),
    "meme_bar": captioned,
    "bright_1.3": lambda p: ImageEnhance.Brightness(p).enhance(1.3),
    "bright_0.7": lambda p: ImageEnhance.Brightness(p).enhance(0.7),
    "contrast_1.4": lambda p: ImageEnhance.Contrast(p).enhance(1.4),
    "gray": lambda p: p.convert("L").convert("RGB"),
    "blur_2": lambda p: p.filter(ImageFilter.GaussianBlur(2)),
    "flip_h": ImageOps.mirror,
    "rot90": lambda p: p.transpose(Image.Transpose.ROTATE_90),
    "rot_3deg": lambda p: p.rotate(3, Image.Resampling.BICUBIC),
    "combo_r0.5_q50_crop5_wm": combined,
}
RECODED = (
    *("jpeg_q95", "jpeg_q75", "jpeg_q50", "jpeg_q30", "webp_q50", "resize_0.25", "resize_0.5", "resize_2"),
    "aspect_0.8",
)
"""What re-hosted copies have gone through: codecs and sizes."""
EASY = (
    *RECODED,
    *("resize_0.25_nearest", "watermark_small", "bright_1.3", "bright_0.7", "contrast_1.4", "gray", "blur_2"),
)
"""What a copy is nearly always found through: encoding, size, a small mark, light, no colour, blur."""
