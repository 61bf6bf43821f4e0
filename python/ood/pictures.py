"""Pictures as the program brings them to a network: transparency, channels, size."""
import math

import torch

_COLOURS = {"black": "000000", "white": "ffffff"}
_LUMA = (.299, .587, .114)


def before_colour(pictures: torch.Tensor, colour: str) -> torch.Tensor:
    """uint8 [N, 4, H, W], red, green, blue and opacity -> [N, 3, H, W] with `colour` (black, white or RRGGBB) behind them."""
    behind = torch.tensor(list(bytes.fromhex(_COLOURS.get(colour, colour))), dtype=torch.int32, device=pictures.device)
    rgb, share = pictures[:, :3].int(), pictures[:, 3:].int()
    return ((rgb * share + behind.view(1, 3, 1, 1) * (255 - share) + 127) // 255).byte()


def with_channels(pictures: torch.Tensor, channels: int) -> torch.Tensor:
    """Grey as colour, or colour as grey."""
    has = pictures.shape[1]
    if has == channels:
        return pictures
    if {has, channels} != {1, 3}:
        raise ValueError(f"expected pictures of {channels} channels, got {has}")
    if channels == 3:
        return pictures.expand(-1, 3, -1, -1)
    luma = torch.tensor(_LUMA, device=pictures.device).view(1, 3, 1, 1)
    return (pictures.float() * luma).sum(1, keepdim=True).round().byte()


def brought_to(pictures: torch.Tensor, height: int, width: int, crop: bool) -> torch.Tensor:
    """Squashed to that size; or, with `crop`, the smallest of the same shape that covers it, and of that the middle."""
    h, w = pictures.shape[2:]
    if (h, w) == (height, width):
        return pictures
    to = [height, width]
    if crop:
        scale = max(height / h, width / w)
        to = [max(math.floor(n * scale + .5), wanted) for n, wanted in ((h, height), (w, width))]
    if [h, w] != to:
        # Of bytes there is one for the CPU alone.
        pictures = torch.ops.aten._upsample_bilinear2d_aa(pictures.cpu(), to, False).to(pictures.device)
    top, left = (to[0] - height) // 2, (to[1] - width) // 2
    return pictures[:, :, top:top + height, left:left + width].contiguous()
