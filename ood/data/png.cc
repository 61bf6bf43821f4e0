#include <png.h>

#include <memory>

#include "ood/data/picture_decoder.h"

namespace ood::decoders {

at::Tensor png(const Encoded& file) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  const std::unique_ptr<png_image, decltype(&png_image_free)> free(&image, png_image_free);
  if (png_image_begin_read_from_memory(&image, file.bytes.data(), file.bytes.size()) == 0)
    fail(file, "PNG", image.message);
  check_size(file, image.height, image.width);
  // Without a gAMA chunk libpng takes 16 bits for linear light; cameras and scanners mean sRGB.
  image.flags |= PNG_IMAGE_FLAG_16BIT_sRGB;
  const bool grey = (image.format & PNG_FORMAT_FLAG_COLOR) == 0;
  const bool shows_through = (image.format & PNG_FORMAT_FLAG_ALPHA) != 0;
  // libpng would mix light; all formats are to look the same.
  image.format = shows_through ? PNG_FORMAT_RGBA : grey ? PNG_FORMAT_GRAY : PNG_FORMAT_RGB;
  std::vector<unsigned char> pixels(PNG_IMAGE_SIZE(image));
  if (png_image_finish_read(&image, nullptr, pixels.data(), 0, nullptr) == 0)
    fail(file, "PNG", image.message);
  const std::int64_t height = image.height, width = image.width;
  if (!shows_through) return over_rows(std::move(pixels), height, width, grey ? 1 : 3);
  const auto colour = file.how.behind.value_or(0);
  const auto picture = over_rows(
      before_colour(pixels.data(), pixels.size() / 4, colour, Alpha::kApart), height, width, 3);
  return grey && is_grey(colour) ? picture.slice(0, 0, 1).contiguous() : picture;
}

}  // namespace ood::decoders
