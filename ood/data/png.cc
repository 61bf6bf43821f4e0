#include <png.h>

#include "ood/data/picture_decoder.h"
#include "ood/errors.h"

namespace ood::decoders {

at::Tensor png(const Encoded& file) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  const auto failed = [&]() {
    const std::string reason = image.message;
    png_image_free(&image);
    fail(file, "PNG", reason);
  };
  if (png_image_begin_read_from_memory(&image, file.bytes.data(), file.bytes.size()) == 0) failed();
  char why[kWhy];
  if (!fits(image.height, image.width, file.how.max_pixels, why)) {
    png_image_free(&image);
    throw DataError(file.path.string() + ": " + why);
  }
  // Without a gAMA chunk libpng takes 16 bits for linear light; cameras and scanners mean sRGB.
  image.flags |= PNG_IMAGE_FLAG_16BIT_sRGB;
  const std::uint32_t behind = file.how.behind;
  const png_color back{static_cast<png_byte>(behind >> 16), static_cast<png_byte>(behind >> 8),
                       static_cast<png_byte>(behind)};
  const bool coloured = back.red != back.green || back.green != back.blue;
  const bool colour = (image.format & PNG_FORMAT_FLAG_COLOR) != 0 ||
                      (coloured && (image.format & PNG_FORMAT_FLAG_ALPHA) != 0);
  image.format = colour ? PNG_FORMAT_RGB : PNG_FORMAT_GRAY;
  std::vector<unsigned char> pixels(PNG_IMAGE_SIZE(image));
  if (png_image_finish_read(&image, &back, pixels.data(), 0, nullptr) == 0) failed();
  at::Tensor out = over_rows(std::move(pixels), image.height, image.width, colour ? 3 : 1);
  png_image_free(&image);
  return out;
}

}  // namespace ood::decoders
