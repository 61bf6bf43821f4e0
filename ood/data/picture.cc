#include "ood/data/picture.h"

// jpeglib.h uses FILE and size_t without including what declares them.
#include <cstddef>
#include <cstdio>
// The order matters.
#include <fcntl.h>
#include <jpeglib.h>
#include <png.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <csetjmp>
#include <cstring>
#include <vector>

#include "ood/data/exif.h"
#include "ood/errors.h"
#include "ood/registry/text.h"
#include "ood/torch.h"

namespace ood {
namespace {

namespace fs = std::filesystem;

// A side beyond this is a damaged header.
constexpr std::int64_t kMaxSide = 1 << 16;
// A progressive picture has about ten; each is a pass over all pixels.
constexpr int kMaxScans = 64;

// The content of a file, in one read. No picture of so many pixels takes more bytes than 16 bits of
// four channels each and what may be said of it beside them.
std::vector<unsigned char> content(const fs::path& path, std::int64_t max_pixels) {
  constexpr std::int64_t kBytes = 8, kBeside = 16 << 20;
  struct Closed {
    int fd;
    ~Closed() {
      if (fd >= 0) ::close(fd);
    }
  } const file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  struct stat about {};
  if (file.fd < 0 || ::fstat(file.fd, &about) != 0 || !S_ISREG(about.st_mode))
    throw DataError(path.string() + ": cannot be opened");
  if (about.st_size > kBytes * max_pixels + kBeside)
    throw DataError(path.string() + ": a file of " + std::to_string(about.st_size) +
                    " bytes; expected a picture of at most " + std::to_string(max_pixels) +
                    " pixels (`max-pixels`)");
  std::vector<unsigned char> bytes(static_cast<std::size_t>(about.st_size));
  std::size_t n = 0;
  for (ssize_t part = 1; n < bytes.size() && part > 0; n += static_cast<std::size_t>(part)) {
    part = ::read(file.fd, bytes.data() + n, bytes.size() - n);
    if (part < 0) throw DataError(path.string() + ": cannot be read");
  }
  bytes.resize(n);
  return bytes;
}

// Nothing here may have a destructor: JPEG's errors leave by a jump.
bool fits(std::int64_t height, std::int64_t width, std::int64_t max_pixels,
          char (&why)[JMSG_LENGTH_MAX]) {
  if (height >= 1 && width >= 1 && height <= kMaxSide && width <= kMaxSide &&
      height * width <= max_pixels)
    return true;
  std::snprintf(why, sizeof why, "a picture of %ldx%ld pixels; expected at most %ld (`max-pixels`)",
                static_cast<long>(width), static_cast<long>(height), static_cast<long>(max_pixels));
  return false;
}

// [C, H, W] over the decoder's own rows, which the resizing reads faster than any other layout.
at::Tensor over_rows(std::vector<unsigned char> pixels, std::int64_t height, std::int64_t width,
                     std::int64_t channels) {
  auto* owner = new std::vector<unsigned char>(std::move(pixels));
  return torch::from_blob(
             owner->data(), {height, width, channels}, [owner](void*) { delete owner; },
             torch::kUInt8)
      .permute({2, 0, 1});
}

at::Tensor read_png(const fs::path& path, const std::vector<unsigned char>& file,
                    std::int64_t max_pixels) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  const auto fail = [&]() -> at::Tensor {
    const std::string reason = image.message;
    png_image_free(&image);
    throw DataError(path.string() + ": does not decode as PNG: " + reason);
  };
  if (png_image_begin_read_from_memory(&image, file.data(), file.size()) == 0) return fail();
  char why[JMSG_LENGTH_MAX];
  if (!fits(image.height, image.width, max_pixels, why)) {
    png_image_free(&image);
    throw DataError(path.string() + ": " + why);
  }
  // Without a gAMA chunk libpng takes 16 bits for linear light; cameras and scanners mean sRGB.
  image.flags |= PNG_IMAGE_FLAG_16BIT_sRGB;
  const bool colour = (image.format & PNG_FORMAT_FLAG_COLOR) != 0;
  image.format = colour ? PNG_FORMAT_RGB : PNG_FORMAT_GRAY;
  std::vector<unsigned char> pixels(PNG_IMAGE_SIZE(image));
  const png_color black{0, 0, 0};
  if (png_image_finish_read(&image, &black, pixels.data(), 0, nullptr) == 0) return fail();
  at::Tensor out = over_rows(std::move(pixels), image.height, image.width, colour ? 3 : 1);
  png_image_free(&image);
  return out;
}

// libjpeg reports errors by a jump and damage by a counter of warnings.
struct JpegErrors {
  jpeg_error_mgr base;
  std::jmp_buf back;
  char text[JMSG_LENGTH_MAX];
};

void jpeg_failed(j_common_ptr info) {
  auto* errors = reinterpret_cast<JpegErrors*>(info->err);
  errors->base.format_message(info, errors->text);
  std::longjmp(errors->back, 1);
}

void jpeg_silent(j_common_ptr) {}

void jpeg_scans(j_common_ptr info) {
  if (reinterpret_cast<j_decompress_ptr>(info)->input_scan_number <= kMaxScans) return;
  auto* errors = reinterpret_cast<JpegErrors*>(info->err);
  std::snprintf(errors->text, sizeof errors->text, "more than %d scans", kMaxScans);
  std::longjmp(errors->back, 1);
}

// Eighths that a picture is decoded at: the fewest that leave as many pixels as are wanted.
unsigned eighths(std::int64_t height, std::int64_t width, const PictureSize& wanted) {
  constexpr unsigned kAll = 8;
  unsigned n = kAll;
  while (wanted.given() && n > 1 && height * (n - 1) >= kAll * wanted.height &&
         width * (n - 1) >= kAll * wanted.width)
    --n;
  return n;
}

// Plain data only between setjmp and its jump: the jump runs no destructors.
bool decode_jpeg(const std::vector<unsigned char>& file, std::int64_t max_pixels,
                 const PictureSize& wanted, JpegErrors& errors, std::vector<unsigned char>& pixels,
                 std::int64_t& height, std::int64_t& width, std::int64_t& channels,
                 int& orientation) {
  jpeg_decompress_struct info{};
  info.err = jpeg_std_error(&errors.base);
  errors.base.error_exit = jpeg_failed;
  errors.base.output_message = jpeg_silent;
  if (setjmp(errors.back) != 0) {
    jpeg_destroy_decompress(&info);
    return false;
  }
  jpeg_create_decompress(&info);
  jpeg_mem_src(&info, file.data(), file.size());
  constexpr unsigned kLongest = 0xffff;
  jpeg_save_markers(&info, JPEG_APP0 + 1, kLongest);
  jpeg_read_header(&info, TRUE);
  for (const auto* m = info.marker_list; m != nullptr && orientation == 1; m = m->next)
    orientation = exif_orientation(m->data, m->data_length);
  if (info.num_components == 4) {
    std::snprintf(errors.text, sizeof errors.text, "a CMYK picture, expected grey or RGB");
    jpeg_destroy_decompress(&info);
    return false;
  }
  height = info.image_height;
  width = info.image_width;
  if (!fits(height, width, max_pixels, errors.text)) {
    jpeg_destroy_decompress(&info);
    return false;
  }
  jpeg_progress_mgr progress{};
  progress.progress_monitor = jpeg_scans;
  info.progress = &progress;
  info.out_color_space = info.num_components == 1 ? JCS_GRAYSCALE : JCS_RGB;
  const bool lies = orientation >= 5;  // its rows are the columns of what is wanted
  info.scale_num = eighths(lies ? width : height, lies ? height : width, wanted);
  info.scale_denom = 8;
  jpeg_start_decompress(&info);
  height = info.output_height;
  width = info.output_width;
  channels = info.output_components;
  pixels.resize(static_cast<std::size_t>(height * width * channels));
  while (info.output_scanline < info.output_height) {
    JSAMPROW row = pixels.data() + static_cast<std::size_t>(info.output_scanline) *
                                       static_cast<std::size_t>(width * channels);
    jpeg_read_scanlines(&info, &row, 1);
  }
  const long warnings = errors.base.num_warnings;
  if (warnings > 0)
    std::snprintf(errors.text, sizeof errors.text, "truncated or damaged (%ld faults)", warnings);
  jpeg_finish_decompress(&info);
  jpeg_destroy_decompress(&info);
  return warnings == 0;
}

at::Tensor read_jpeg(const fs::path& path, const std::vector<unsigned char>& file,
                     std::int64_t max_pixels, const PictureSize& wanted) {
  JpegErrors errors{};
  std::vector<unsigned char> pixels;
  std::int64_t height = 0, width = 0, channels = 0;
  int orientation = 1;
  if (!decode_jpeg(file, max_pixels, wanted, errors, pixels, height, width, channels, orientation))
    throw DataError(path.string() + ": does not decode as JPEG: " + errors.text);
  return upright(over_rows(std::move(pixels), height, width, channels), orientation);
}

}  // namespace

bool is_picture_name(const fs::path& path) {
  const std::string end = lower(path.extension().string());
  return end == ".png" || end == ".jpg" || end == ".jpeg";
}

at::Tensor read_picture(const fs::path& path, std::int64_t max_pixels, const PictureSize& size) {
  const auto file = content(path, max_pixels);
  at::Tensor picture;
  // By content: a wrong ending is a common mistake and harmless.
  if (file.size() >= 8 && png_sig_cmp(file.data(), 0, 8) == 0)
    picture = read_png(path, file, max_pixels);
  else if (file.size() >= 3 && file[0] == 0xff && file[1] == 0xd8 && file[2] == 0xff)
    picture = read_jpeg(path, file, max_pixels, size);
  else
    throw DataError(path.string() + ": expected a PNG or JPEG picture, got something else");
  if (!size.given() || (picture.size(1) == size.height && picture.size(2) == size.width))
    return picture;
  return brought_to(picture.unsqueeze(0), size)[0];
}

at::Tensor brought_to(const at::Tensor& pictures, const PictureSize& size) {
  const auto h = pictures.size(2), w = pictures.size(3);
  if (h == size.height && w == size.width) return pictures;
  auto height = size.height, width = size.width;
  if (size.crop) {
    // The smallest size of the same shape that covers the wanted one.
    const double scale = std::max(static_cast<double>(height) / static_cast<double>(h),
                                  static_cast<double>(width) / static_cast<double>(w));
    const auto side = [&](std::int64_t n, std::int64_t wanted) {
      return std::max<std::int64_t>(std::llround(static_cast<double>(n) * scale), wanted);
    };
    height = side(h, height);
    width = side(w, width);
  }
  const auto all = h == height && w == width
                       ? pictures
                       : at::_upsample_bilinear2d_aa(pictures, {height, width},
                                                     /*align_corners=*/false);
  return all.narrow(2, (height - size.height) / 2, size.height)
      .narrow(3, (width - size.width) / 2, size.width)
      .contiguous();
}

at::Tensor with_channels(const at::Tensor& pictures, std::int64_t channels) {
  if (pictures.size(1) == channels) return pictures;
  if (channels == 3) return pictures.expand({-1, 3, -1, -1}).contiguous();
  const auto luma = torch::tensor({0.299f, 0.587f, 0.114f}).view({1, 3, 1, 1});
  return pictures.to(torch::kFloat).mul(luma).sum(1, true).round_().to(torch::kUInt8);
}

}  // namespace ood
