#include "ood/data/picture_decoder.h"
#ifdef OOD_WEBP
#include <webp/decode.h>
#include <webp/demux.h>

#include <algorithm>
#endif
#include "ood/data/exif.h"

namespace ood::decoders {

#ifdef OOD_WEBP

namespace {

int orientation_of(const std::vector<unsigned char>& bytes) {
  const WebPData data{bytes.data(), bytes.size()};
  WebPDemuxer* demuxer = WebPDemux(&data);
  if (demuxer == nullptr) return 1;
  int orientation = 1;
  WebPChunkIterator exif;
  if (WebPDemuxGetChunk(demuxer, "EXIF", 1, &exif) != 0) {
    // Some writers begin it as JPEG does, some with the block itself.
    std::vector<unsigned char> block{'E', 'x', 'i', 'f', 0, 0};
    const std::size_t skip =
        exif.chunk.size >= 6 && std::equal(block.begin(), block.end(), exif.chunk.bytes) ? 6 : 0;
    block.insert(block.end(), exif.chunk.bytes + skip, exif.chunk.bytes + exif.chunk.size);
    orientation = exif_orientation(block.data(), block.size());
    WebPDemuxReleaseChunkIterator(&exif);
  }
  WebPDemuxDelete(demuxer);
  return orientation;
}

}  // namespace

at::Tensor webp(const Encoded& file) {
  WebPBitstreamFeatures about;
  if (WebPGetFeatures(file.bytes.data(), file.bytes.size(), &about) != VP8_STATUS_OK)
    fail(file, "WebP", "truncated or damaged");
  if (about.has_animation != 0) fail(file, "WebP", "expected one picture, got an animation");
  check_size(file, about.height, about.width);
  const int channels = about.has_alpha != 0 ? 4 : 3;
  const int row = about.width * channels;
  std::vector<unsigned char> pixels(static_cast<std::size_t>(about.height) *
                                    static_cast<std::size_t>(row));
  const auto decode = channels == 4 ? WebPDecodeRGBAInto : WebPDecodeRGBInto;
  if (decode(file.bytes.data(), file.bytes.size(), pixels.data(), pixels.size(), row) == nullptr)
    fail(file, "WebP", "truncated or damaged");
  if (channels == 4)
    pixels =
        before_colour(pixels.data(), pixels.size() / 4, file.how.behind.value_or(0), Alpha::kApart);
  return upright(over_rows(std::move(pixels), about.height, about.width, 3),
                 orientation_of(file.bytes));
}

#else

at::Tensor webp(const Encoded& file) {
  fail(file, "WebP", "the program was built without libwebp (libwebp-dev)");
}

#endif

}  // namespace ood::decoders
