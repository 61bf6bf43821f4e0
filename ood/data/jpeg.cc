// jpeglib.h uses FILE and size_t without including what declares them.
#include <cstddef>
#include <cstdio>
// The order matters.
#include <jpeglib.h>

#include <csetjmp>

#include "ood/data/exif.h"
#include "ood/data/picture_decoder.h"
#include "ood/torch.h"

namespace ood::decoders {
namespace {

static_assert(kWhy == JMSG_LENGTH_MAX);
// A progressive picture has about ten; each is a pass over all pixels.
constexpr int kMaxScans = 64;

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
                 const PictureSize& wanted, JpegErrors& errors, at::Tensor& pixels,
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
  const std::int64_t height = info.image_height, width = info.image_width;
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
  const std::int64_t row_bytes = std::int64_t{info.output_width} * info.output_components;
  pixels =
      torch::empty({info.output_height, info.output_width, info.output_components}, torch::kUInt8);
  auto* const begin = pixels.mutable_data_ptr<unsigned char>();
  while (info.output_scanline < info.output_height) {
    JSAMPROW row = begin + info.output_scanline * row_bytes;
    jpeg_read_scanlines(&info, &row, 1);
  }
  const long warnings = errors.base.num_warnings;
  if (warnings > 0)
    std::snprintf(errors.text, sizeof errors.text, "truncated or damaged (%ld faults)", warnings);
  jpeg_finish_decompress(&info);
  jpeg_destroy_decompress(&info);
  return warnings == 0;
}

}  // namespace

at::Tensor jpeg(const Encoded& file) {
  JpegErrors errors{};
  at::Tensor pixels;  // [height, width, channels]
  int orientation = 1;
  if (!decode_jpeg(file.bytes, file.how.max_pixels, file.how.size, errors, pixels, orientation))
    fail(file, "JPEG", errors.text);
  return upright(pixels.permute({2, 0, 1}), orientation);
}

}  // namespace ood::decoders
